"""A clock that jumps: what lasts is told by the monotonic clock, whatever the time of day is set to."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TELLS_THE_TIME = re.compile(r"\btime\.time(_ns)?\(|\butcnow\(|\b(gm|local)time\(")
MEANT = {
    # The moment of a request, where its caller leaves it out: how long ago the last event was.
    "serving/footfall_serving/request.py": 1,
    "client/footfall_client/_calls.py": 1,
}
"""Where the time of day is what is asked for."""


def test_nothing_on_the_way_of_a_request_lasts_by_the_time_of_day() -> None:
    found = {}
    for package in ("serving", "client"):
        for path in (ROOT / package).rglob("*.py"):
            count = len(TELLS_THE_TIME.findall(path.read_text()))
            if count:
                found[str(path.relative_to(ROOT))] = count
    assert found == MEANT
