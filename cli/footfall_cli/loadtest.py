"""`footfall loadtest`: real histories at a served model, measured and judged."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, say, show
from footfall_loadtest.options import PROTOCOLS, LoadTestOptions


def loadtest(
    dataset: Annotated[
        Path, typer.Option(help="A folder written by `footfall prepare`; histories come from it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of report.html and report.json.")],
    *,
    url: Annotated[str, typer.Option(help="host:port of gRPC.")] = "127.0.0.1:8001",
    http_url: Annotated[str, typer.Option(help="host:port of HTTP.")] = "127.0.0.1:8000",
    protocol: Annotated[Literal["grpc", "http", "both"], typer.Option(help="What to load.")] = "both",
    options: Annotated[Flags, LoadTestOptions],
    tls_root: Annotated[
        Path | None,
        typer.Option(help="PEM root of the server's certificate; every protocol loaded uses TLS."),
    ] = None,
    p99_ms: Annotated[float | None, typer.Option(help="Fail where a protocol's p99 is above.")] = None,
    max_failures: Annotated[int, typer.Option(help="Fail where more requests fail.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Load a server with real histories; exit with 1 where it is slower or fails more than allowed.

    Example: footfall loadtest --dataset dataset --out report --users 8 --seconds 30 --p99-ms 50
    """
    from footfall_client import Client, Unavailable
    from footfall_loadtest.gate import Gate
    from footfall_loadtest.gate import as_json as plain
    from footfall_loadtest.run import REPORT, run_load_test

    protocols = PROTOCOLS if protocol == "both" else (protocol,)
    wanted = LoadTestOptions(protocols, **options)
    urls = {"grpc": url, "http": http_url}
    for name in protocols:
        with Client(urls[name], name, tls=tls_root or False) as client:  # type: ignore[arg-type]
            if not client.ready():
                raise Unavailable(f"no model is ready at {urls[name]} ({name})")
    say(f"{wanted.users} clients over {' and '.join(protocols)} for {wanted.seconds:g} s")
    measured = run_load_test(urls, dataset, out, wanted, tls_root)
    lines = [f"{'':6}{'requests/s':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'failures':>10}"]
    for name, one in measured.items():
        times = f"{one.p50_ms:9.1f}{one.p95_ms:9.1f}{one.p99_ms:9.1f}"
        lines.append(f"{name:6}{one.requests_per_second:12,.0f}{times}{one.failures:10,}")
    show(plain(measured), "\n".join([*lines, f"report: {out / REPORT}"]), as_json)
    Gate(p99_ms, max_failures).check(measured)
