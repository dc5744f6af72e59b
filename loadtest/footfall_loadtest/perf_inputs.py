"""Perf inputs: real histories as the input-data JSON of NVIDIA's perf_analyzer and Model Analyzer.

python -m footfall_loadtest.perf_inputs DATASET OUT.json [REQUESTS]
"""

import json
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from footfall.contract import ACTION, ITEM_ID, NOW, TIMESTAMP
from footfall_loadtest.workload import Request, Workload


def perf_inputs(requests: Iterable[Request]) -> dict[str, Any]:
    """Shapes without the batch axis, as perf_analyzer adds it."""
    return {"data": [_inputs(request) for request in requests]}


def _inputs(request: Request) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {
        ITEM_ID.name: [event.item for event in request.history],
        ACTION.name: [event.action for event in request.history],
        TIMESTAMP.name: [event.time for event in request.history],
        NOW.name: [request.now],
    }
    return {name: {"content": values, "shape": [len(values)]} for name, values in columns.items()}


if __name__ == "__main__":
    dataset, out, *count = sys.argv[1:]
    drawn = islice(Workload(Path(dataset)).strangers(), int(count[0]) if count else 100)
    Path(out).write_text(json.dumps(perf_inputs(drawn)) + "\n")
