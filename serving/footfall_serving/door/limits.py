"""Limits: how much one request and one connection may ask of the server, and all of them together."""

from footfall.contract import MAX_BATCH

AT_ONCE = MAX_BATCH
"""Inferences that the server has at once; others wait here for their turn, and who leaves before it is never sent."""

MAX_FRAME_BYTES = 4 * 2**20 + 9
"""Of HTTP/2: what server 2.51 announces that it takes, and the head."""
STREAM_BYTES = 16 * 2**10
"""What a call takes up in the server beside its message: 15 KB, of 4,000 that were open."""

MAX_HEAD_BYTES = 16 * 2**10
"""As much as server 2.51 announces for gRPC's headers."""
MAX_BODY_BYTES = 16 * 2**20
"""Of an HTTP request or a gRPC message: 8,192 events and 16,384 candidates with ids of 512 bytes, all of them the
longest there are, take 12.6 MB."""
MAX_CHUNKS = 2**14
"""Of a chunked body: 1 KiB each fill the largest. Two million of one byte ended the server."""
MAX_ELEMENTS = 2**17
"""Of one tensor: 16 times the events that are read of a history."""
MAX_DIMS = 8
MAX_TENSORS = 64
"""Of a request, in and out each; the ensemble takes 8 and gives 6."""
MAX_JSON_MARKS = 2**20
"""Commas, colons and brackets of a JSON text: each may become an object of about 60 bytes here."""
MAX_TEXT = 256
"""Bytes of a name or a string parameter; what a request calls itself is one."""
MAX_CONNECTIONS = 1024
"""At once, over both protocols; one more takes the place of the one that has been idle longest."""
MAX_SECONDS = 30.0
"""From a request's first byte to its last."""
MAX_HELD_BYTES = 256 * 2**20
"""Of requests together that are not whole yet, or over gRPC not answered; who then holds more than FREE_BYTES is
told to try again."""
FREE_BYTES = 64 * 2**10
