"""Flow: what may be sent within the windows that the other end of an HTTP/2 connection opens; RFC 9113, 5.2."""

from collections import OrderedDict
from collections.abc import Callable

from footfall_serving.door.grpc.frames import DATA, FIRST_FRAME_BYTES, HEAD, Malformed

FIRST_WINDOW = 65_535
"""Of HTTP/2, until the other end says otherwise."""
LARGEST_WINDOW = 2**31 - 1
PIECE_BYTES = 2**16
"""Of what had to wait, so that a large message does not keep small ones back."""


class Flow:
    """One stream of one end; `waiting` what its windows have no room for, `flags` and `after` what goes with and
    behind the last of it; `read` what came from there since its window was opened.
    """

    __slots__ = ("after", "flags", "number", "read", "waiting", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number, self.window = number, window
        self.waiting = bytearray()
        self.flags, self.after = 0, b""
        self.read = 0


class Outlet:
    """All that is sent to one end, through `write`; `paused` while that takes no more."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._blocked: dict[int, Flow] = {}
        self._ready: OrderedDict[int, Flow] = OrderedDict()
        """Those of the blocked ones that have room of their own, and wait for that of the connection."""
        self.paused = False
        self.window = self.first_window = FIRST_WINDOW
        self.max_frame_bytes = FIRST_FRAME_BYTES
        self.waiting = 0

    def open(self, number: int) -> Flow:
        return Flow(number, self.first_window)

    def send(self, flow: Flow, data: bytes, flags: int = 0) -> None:
        size = len(data)
        most = 0 if self.paused else min(self.window, flow.window, self.max_frame_bytes)
        if size > max(most, 0) or flow.waiting:
            flow.waiting += data
            flow.flags |= flags
            self.waiting += size
            self._blocked[flow.number] = flow
            self._try(flow)
        else:
            self.window -= size
            flow.window -= size
            self._write(HEAD.pack(size >> 8, size & 0xFF, DATA, flags, flow.number) + data)

    def finish(self, flow: Flow, frames: bytes) -> None:
        """These behind all that was sent; nothing follows."""
        if flow.waiting:
            flow.after += frames
        else:
            self._write(frames)

    def drop(self, flow: Flow) -> None:
        """Of what waits, send nothing more."""
        if self._blocked.pop(flow.number, None) is not None:
            self.waiting -= len(flow.waiting)
            self._ready.pop(flow.number, None)

    def push(self) -> None:
        """What the connection has room for now, a piece of each stream in turn."""
        while self._ready and self.window > 0 and not self.paused:
            number, flow = self._ready.popitem(last=False)
            self._push_piece(flow)
            if flow.waiting and flow.window > 0:
                self._ready[number] = flow

    def _push_piece(self, flow: Flow) -> None:
        size = min(len(flow.waiting), self.window, flow.window, self.max_frame_bytes, PIECE_BYTES)
        piece = bytes(memoryview(flow.waiting)[:size])
        del flow.waiting[:size]
        self.window -= size
        flow.window -= size
        self.waiting -= size
        flags, after = 0, b""
        if not flow.waiting:
            del self._blocked[flow.number]
            flags, after = flow.flags, flow.after
        self._write(HEAD.pack(size >> 8, size & 0xFF, DATA, flags, flow.number) + piece + after)

    def _try(self, flow: Flow) -> None:
        if flow.waiting and flow.window > 0:
            self._ready[flow.number] = flow
            self.push()

    def widen(self, flow: Flow | None, number: int, size: int) -> None:
        """By a frame of the other end; `flow` that of the stream where it is open. Raises Malformed."""
        if not number:
            self.window += size
            if self.window > LARGEST_WINDOW:
                raise Malformed
            self.push()
            return
        flow = flow or self._blocked.get(number)  # of a call that is over, but for what waits here
        if flow is not None:
            flow.window += size
            self._try(flow)

    def change_first_window(self, size: int, flows: list[Flow]) -> None:
        """Of new streams, and by as much of those that are open. Raises Malformed."""
        if size > LARGEST_WINDOW:
            raise Malformed
        change, self.first_window = size - self.first_window, size
        for flow in {id(flow): flow for flow in (*flows, *self._blocked.values())}.values():
            flow.window += change
            if flow.window <= 0:
                self._ready.pop(flow.number, None)
        for flow in list(self._blocked.values()):
            self._try(flow)
