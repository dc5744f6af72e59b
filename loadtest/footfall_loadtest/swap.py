"""Swap: another version takes the traffic during a load test, and is rolled back, by the commands of `footfall`."""

import json
import subprocess
import sys
from pathlib import Path

from footfall.contract import RANKER
from footfall.errors import InputError, NotReadyError

FOOTFALL = Path(sys.executable).with_name("footfall")


class Swap:
    """In processes of their own, not on the generator's event loop. Raises InputError, NotReadyError."""

    def __init__(self, repository: Path | None) -> None:
        if repository is None:
            raise InputError("a swap changes the versions of a model repository; name it with --repository")
        self._repository = repository
        rows = json.loads(_run("versions", "--repository", str(repository), "--json"))
        others = [row["version"] for row in rows if not row["live"] and "error" not in row]
        if not others:
            raise InputError(f"{repository} has no version beside the live one, so there is nothing to swap")
        self._other = max(others)

    def there(self) -> str:
        _run("publish", str(self._repository / RANKER / str(self._other)))
        return f"publish {self._other}"

    def back(self) -> str:
        _run("rollback", "--repository", str(self._repository))
        return "rollback"


def _run(*arguments: str) -> str:
    done = subprocess.run([FOOTFALL, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise NotReadyError(f"footfall {arguments[0]} failed: {said[-1] if said else 'without a word'}")
    return done.stdout
