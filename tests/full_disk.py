"""The command line where a file cannot grow, as on a full disk."""

import subprocess
import sys
from pathlib import Path

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""


def on_a_full_disk(limit: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run footfall's `command` where no file may grow beyond `limit` bytes.

    Not by a preexec_fn: in a process that has used gRPC, its code after a fork at times aborts the child, or writes a
    line of its own.
    """
    limited = [sys.executable, "-c", LIMITED, str(limit), FOOTFALL, *map(str, command)]
    return subprocess.run(limited, capture_output=True, text=True, check=False)
