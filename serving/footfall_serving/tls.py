"""TLS: whether certificate, key and root go together, found out before the server starts."""

import contextlib
import ssl
from pathlib import Path

from footfall.errors import InputError

ROUND_TRIPS = 3
"""Of a handshake in memory; TLS 1.2 needs as many."""

NOT_READ = "one of them is not in PEM, or the key has a password"


def check_certificate(certificate: Path, key: Path, root: Path) -> None:
    """Raises InputError where the files are no certificate, key and root of each other."""
    try:
        _handshake(certificate, key, root)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or NOT_READ
        raise InputError(
            f"TLS with the certificate {certificate}, the key {key} and the root {root} fails: {reason}"
        ) from error
    except OSError as error:
        raise InputError(
            f"a TLS file of {certificate}, {key} and {root} cannot be read: {error.strerror}"
        ) from error


def _handshake(certificate: Path, key: Path, root: Path) -> None:
    """With a client that trusts `root`; nothing leaves this process."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Without a password, that of an encrypted key would be asked for on the terminal.
    server.load_cert_chain(certificate, key, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC: the certificate may be its own root
    client.load_verify_locations(root)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(ROUND_TRIPS):
        for side in (asking, answering):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
