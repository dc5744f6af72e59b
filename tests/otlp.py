"""Otlp: a receiver of OpenTelemetry's traces, as the collector is one, that keeps their spans."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

IDS = ("traceId", "spanId", "parentSpanId")


class Receiver:
    """Where it listens, and what came."""

    def __init__(self) -> None:
        self.url, self.spans = "", list[Span]()

    def of(self, trace_id: str) -> dict[str, Span]:
        """The spans of a trace, by name."""
        return {span.name: span for span in list(self.spans) if span.trace_id.hex() == trace_id}


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """Until the block ends."""
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.spans += _spans(body, self.headers["Content-Type"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *parts: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_port}/v1/traces"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(body: bytes, content_type: str) -> list[Span]:
    """OTLP's JSON has ids in hexadecimal, that of protocol buffers in base64."""
    if content_type == "application/json":
        request = json_format.ParseDict(_in_base64(json.loads(body)), ExportTraceServiceRequest())
    else:
        request = ExportTraceServiceRequest.FromString(body)
    return [span for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]


def _in_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_base64(one) for one in value]
    if isinstance(value, dict):
        return {
            name: base64.b64encode(bytes.fromhex(one)).decode() if name in IDS else _in_base64(one)
            for name, one in value.items()
        }
    return value
