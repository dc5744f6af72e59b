"""Faults at length, on `footfall serve` as it is started: who asks gets the right answer or none."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from asker import running
from conftest import copied, eventually
from test_door import INFER

from footfall.errors import InputError
from footfall_client import Client, FootfallClientError, Recommendation
from footfall_client._settings import Protocol
from footfall_engines.repository import Repository
from footfall_serving.door.grpc.frames import HEAD, HEADERS, PREFACE
from footfall_serving.publish import publish
from footfall_serving.state import ServerState, read_state
from footfall_serving.stubs import live_stubs
from footfall_serving.versions import list_versions

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
RECOVERY_S = 5.0
PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")


@dataclass
class Served:
    """`footfall serve` on a repository, in a process of its own."""

    repository: Path
    process: "subprocess.Popen[str]"
    log: Path

    @property
    def state(self) -> ServerState:
        found: list[ServerState] = []

        def look() -> bool:
            state = read_state(self.repository)
            found.extend([] if state is None else [state])
            return bool(found)

        assert eventually(look), self.log.read_text()
        return found[0]

    @property
    def root(self) -> Path:
        """Of its file systems, some of which may be its own."""
        return Path(f"/proc/{self.process.pid}/root")

    def stubs(self) -> list[int]:
        return [stub.pid for stub in live_stubs(self.state.pid)]


@contextlib.contextmanager
def serving(
    repository: Path, log: Path, mounts: str = "", environment: dict[str, str] | None = None
) -> Iterator[Served]:
    """`mounts`: what to mount before, in a name space of its own."""
    command = [FOOTFALL, "serve", "--repository", str(repository), *PORTS]
    if mounts:
        command = ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh", *command]
    with log.open("w") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, text=True, env=os.environ | (environment or {})
        )
    served = Served(repository, process, log)
    try:
        assert served.state.pid
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()


class Watch(threading.Thread):
    """Asks on and on, over one protocol; keeps when it was answered, what it was answered, and what failed."""

    def __init__(self, state: ServerState, ids: list[str], protocol: Protocol) -> None:
        super().__init__()
        self._url = state.grpc_url if protocol == "grpc" else state.http_url
        self._ids, self._protocol = ids, protocol
        self.ended = threading.Event()
        self.answered_at: list[float] = [time.monotonic()]
        self.answers: list[Recommendation] = []
        self.failures: list[FootfallClientError] = []

    def run(self) -> None:
        while not self.ended.is_set():
            with (
                Client(self._url, self._protocol, retries=0, timeout=2) as client,
                contextlib.suppress(FootfallClientError),
            ):
                while not self.ended.is_set():
                    self._ask(client)
            time.sleep(0.02)

    def _ask(self, client: Client) -> None:
        try:
            self.answers.append(client.recommend(self._ids[:5], k=10))
        except FootfallClientError as error:
            self.failures.append(error)
            raise
        self.answered_at.append(time.monotonic())


def longest_silence_s(watches: Sequence[Watch]) -> float:
    """Of any of them, between two answers."""
    return max(float(np.diff(watch.answered_at).max()) for watch in watches)


@contextlib.contextmanager
def watched(served: Served, ids: list[str]) -> Iterator[list[Watch]]:
    """None of the answers, before, during and after the block, is other than the first one."""
    protocols: tuple[Protocol, ...] = ("grpc", "http")
    watches = [Watch(served.state, ids, protocol) for protocol in protocols]
    with running(watches):
        yield watches
    first = watches[0].answers[0]
    for watch in watches:
        for answer in watch.answers:
            assert [item.id for item in answer.items] == [item.id for item in first.items]
            assert np.allclose(
                [item.score for item in answer.items], [item.score for item in first.items], atol=1e-4
            )


@pytest.fixture
def repository(tiny_repository: Path, tmp_path: Path) -> Path:
    return copied(tiny_repository, tmp_path / "repository")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_every_stub_and_the_server_is_back_within_seconds(
    repository: Path, tmp_path: Path, ids: list[str], how: signal.Signals
) -> None:
    with serving(repository, tmp_path / "log") as served:
        for victim in range(len(served.stubs()) + 1):
            with watched(served, ids) as watches:
                pid = [*served.stubs(), served.state.pid][victim]
                os.kill(pid, how)
                assert eventually(lambda: pid not in [*served.stubs(), served.state.pid])  # noqa: B023
                time.sleep(0.5)
            silence = longest_silence_s(watches)
            print(f"{how.name} of {victim}: silent for {silence:.1f} s")
            assert silence < RECOVERY_S
        with watched(served, ids):
            for pid in served.stubs():
                os.kill(pid, how)


def full(folder: Path) -> Path:
    """A file that takes all there is."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a small file system takes root")
def test_a_full_dev_shm_costs_no_stub_and_no_wrong_answer(
    repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    mounts = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    with serving(repository, tmp_path / "log", mounts) as served, watched(served, ids) as watches:
        stubs = served.stubs()
        with Client(served.state.grpc_url, retries=0, timeout=10) as client:
            filler = full(served.root / "dev" / "shm")
            assert filler.stat().st_size > 2**20
            refused = 0
            for size in (1, 100, 8000, 8000, 8000):
                try:
                    client.recommend(["x" * 500] * size, candidates=["y" * 500] * size)
                except FootfallClientError:
                    refused += 1
            filler.unlink()
            assert client.recommend(["x" * 500] * 8000).items
        same = served.stubs() == stubs
    print(
        f"large ones refused: {refused}; same stubs: {same}; silent for {longest_silence_s(watches):.1f} s;"
        f" {[len(watch.failures) for watch in watches]} failed"
    )
    assert longest_silence_s(watches) < RECOVERY_S


@pytest.mark.skipif(os.geteuid() != 0, reason="to mount a small file system takes root")
def test_a_full_disk_keeps_nothing_from_being_served_and_publishing_goes_on_after_it(
    three_versions: Path, tmp_path: Path, ids: list[str]
) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)], check=True)
    try:
        repository = Repository(copied(three_versions, place / "repository"))
        publish(repository.version_folder(1))
        with serving(repository.folder, tmp_path / "log") as served:
            with watched(served, ids) as watches:
                filler = full(place)
                with pytest.raises(InputError, match="No space left on device"):
                    publish(repository.version_folder(2))
                os.kill(served.stubs()[0], signal.SIGKILL)
                assert eventually(lambda: "serves again" in served.log.read_text())
                filler.unlink()
            assert longest_silence_s(watches) < RECOVERY_S
            assert publish(repository.version_folder(2)).serving
            with Client(served.state.grpc_url) as client:
                assert client.recommend(ids[:3]).model_version == 2
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_folders_that_are_no_versions_may_appear_beside_the_live_one(
    repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    with serving(repository, tmp_path / "log") as served, watched(served, ids) as watches:
        live = Repository(repository).version_folder(1)
        for name, spoil in SPOILT.items():
            shutil.copytree(live, live.with_name(name))
            spoil(live.with_name(name))
        (live.with_name("9")).mkdir()
        os.kill(served.stubs()[0], signal.SIGKILL)
        assert eventually(lambda: "serves again" in served.log.read_text())
        rows = {row["version"]: row for row in list_versions(repository)}
        assert rows[1]["live"]
        for name in SPOILT:
            with pytest.raises(InputError):
                publish(live.with_name(name))
    assert longest_silence_s(watches) < RECOVERY_S


def cut(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:100])


def flip(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


SPOILT: dict[str, Callable[[Path], object]] = {
    "5": cut,
    "6": flip,
    "7": lambda folder: (folder / "manifest.json").write_text("{"),
    "8": lambda folder: (folder / "model.onnx").unlink(),
}


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_clock_that_jumps_is_noticed_by_nobody(repository: Path, tmp_path: Path, ids: list[str]) -> None:
    """That of the supervisor and the door."""
    jump, library = tmp_path / "jump", tmp_path / "jumps.so"
    (tmp_path / "jumps.c").write_text(JUMPS)
    build = ["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "jumps.c"), "-ldl"]
    subprocess.run(build, check=True)
    environment = {"LD_PRELOAD": str(library), "JUMP_FILE": str(jump)}
    jump.write_text("86400")
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=os.environ | environment,
        capture_output=True,
        check=True,
    )
    assert float(told.stdout) > time.time() + 80_000
    jump.write_text("0")
    with serving(repository, tmp_path / "log", environment=environment) as served:
        with watched(served, ids) as watches:
            for days in (400, -400, 1, -1):
                jump.write_text(str(days * 86400))
                counts = [len(watch.answers) for watch in watches]
                time.sleep(3)
                for watch, count in zip(watches, counts, strict=True):
                    assert len(watch.answers) > count
        assert [failure for watch in watches for failure in watch.failures] == []
        assert longest_silence_s(watches) < RECOVERY_S
        assert "supervisor" not in served.log.read_text()
        os.kill(served.stubs()[0], signal.SIGKILL)
        assert eventually(lambda: "serves again" in served.log.read_text())


JUMPS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The time of day, as many seconds off as the file says, for what Python runs; the server's own clock stays. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME && !strstr(program_invocation_name, "triton")) {
        FILE *file = fopen(getenv("JUMP_FILE"), "r");
        long seconds = 0;
        if (file) { if (fscanf(file, "%ld", &seconds) == 1) now->tv_sec += seconds; fclose(file); }
    }
    return result;
}
"""


def test_a_thousand_callers_who_send_a_byte_a_second_keep_nobody_from_being_answered(
    repository: Path, tmp_path: Path, ids: list[str]
) -> None:
    with serving(repository, tmp_path / "log") as served, watched(served, ids) as watches:
        state = served.state
        begun = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n".encode()
        headers = HEAD.pack(1000 >> 8, 1000 & 0xFF, HEADERS, 0, 1)
        slow: list[socket.socket] = []
        for place in range(1200):
            port, first = ((state.http_port, begun), (state.grpc_port, PREFACE + headers))[place % 2]
            slow.append(socket.create_connection((state.host, port), timeout=30))
            slow[-1].sendall(first)
        for _ in range(40):
            for line in slow:
                with contextlib.suppress(OSError):
                    line.sendall(b"x")
            time.sleep(1)
        closed = 0
        for line in slow:
            line.settimeout(1)
            with contextlib.suppress(TimeoutError):
                try:
                    while line.recv(4096):
                        pass
                    closed += 1
                except ConnectionError:
                    closed += 1
            line.close()
    assert closed == len(slow)
    assert [failure for watch in watches for failure in watch.failures] == []
    assert longest_silence_s(watches) < RECOVERY_S
