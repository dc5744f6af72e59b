"""ServerProcess: one life of the server, with all that it started, from start to end."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from footfall.folder import writing
from footfall_serving.install import SERVER, STUB, server_home
from footfall_serving.stubs import remove_orphaned_regions

STOP_TIMEOUT_S = 7.0
"""Given to SIGTERM before SIGKILL, so that the end takes less than 10 s even with a dead stub."""

# Has the kernel send SIGTERM when what supervises dies. In a program of its own, not in a preexec_fn: in a process
# that has used gRPC, Python's code between fork and exec at times aborts the child.
END_WITH_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGTERM = 1, 15
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerProcess:
    """The server and its stubs are one group of processes; `prefix` names their shared memory."""

    def __init__(
        self,
        command: Sequence[str],
        files: Sequence[int],
        log: Path,
        prefix: str,
        variables: Mapping[str, str],
    ) -> None:
        """Start it with the descriptors `files` open and `variables` in its environment; what it says is appended to
        `log`.
        """
        self._prefix, self._log = prefix, log
        wrapped = [sys.executable, "-I", "-S", "-c", END_WITH_PARENT, str(os.getpid()), *command]
        with writing(log):
            output = log.open("ab")
        self._said_before = log.stat().st_size
        with output:
            self._process = subprocess.Popen(
                wrapped,
                env={**server_home().environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=files,
            )
        self._ended = False
        self._ending = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    def died(self) -> str | None:
        """How it ended, or None while it runs. Leaves it a zombie, so that its number stays its own until `kill`."""
        try:
            state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return "was ended"
        if state is None:
            return None
        if state.si_code == os.CLD_EXITED:
            return f"ended with code {state.si_status}: {self.last_error()}"
        return f"was ended by {signal.Signals(state.si_status).name}"

    def end(self) -> None:
        """SIGTERM, then SIGKILL to all that is left: while it loads or with a dead stub a server takes no SIGTERM,
        and a stub that waits for a dead server none either.
        """
        deadline = time.monotonic() + STOP_TIMEOUT_S
        with self._ending:
            if not self._ended:
                self._process.terminate()
        while self.died() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """End the server and its stubs at once, and remove their shared memory."""
        with self._ending:
            if self._ended:
                return
            with contextlib.suppress(ProcessLookupError):  # not yet a group of its own
                os.killpg(self.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._ended = True
        remove_orphaned_regions(self._prefix, [])

    def last_error(self) -> str:
        """The last complaint in the log since it started, or its last line."""
        with self._log.open(errors="replace") as log:
            log.seek(self._said_before)
            lines = [line.strip() for line in log if line.strip()]
        complaints = [line for line in lines if " E " in line[:40] or "rror" in line]
        return (complaints or lines or [f"{self._log} says nothing"])[-1]


def end_all(prefix: str) -> None:
    """End every server and stub of this machine whose shared memory is named with `prefix`, and remove that."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words and Path(words[0]).name in (SERVER, STUB) and any(prefix in word for word in words):
                process.kill()
    remove_orphaned_regions(prefix, [])
