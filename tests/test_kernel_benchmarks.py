"""The benchmarks of the kernels: peers compute what ours computes or are not timed, marks are judged as written."""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

BENCHMARKS = Path(__file__).resolve().parent.parent / "kernels" / "benchmarks"
OPTIONS = argparse.Namespace(
    device="cpu", heads=2, head_dim=32, small=False, peers=["sdpa", "flex", "meta"], meta_kernels=None
)


@pytest.fixture
def attention(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("attention")


@pytest.mark.parametrize("lengths", [[300, 0, 1, 129, 5, 260], [256, 256], [1], [700]], ids=str)
def test_flex_attention_is_given_the_blocks_it_would_find_itself(attention: Any, lengths: list[int]) -> None:
    document = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    mine = importlib.import_module("_peers").block_mask(document)
    total = len(document)
    theirs = create_block_mask(
        lambda _, __, row, column: (row >= column) & (document[row] == document[column]),
        None, None, total, total, device="cpu",
    )  # fmt: skip
    for name in ("kv_num_blocks", "full_kv_num_blocks", "q_num_blocks", "full_q_num_blocks"):
        assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
    assert torch.equal(mine.to_dense(), theirs.to_dense())


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
def test_peers_agree_with_ours_or_say_why_they_are_absent(attention: Any, biased: bool) -> None:
    batch = attention.draw([70, 1, 0, 33], 70, OPTIONS, torch.float32)
    absent: dict[str, str] = {}
    found = attention.contestants(batch, "softmax", biased, OPTIONS, absent)
    case = "softmax + bias" if biased else "softmax"
    assert set(found) == {"reference", "flex"} | (set() if biased else {"sdpa"})
    assert (
        absent.pop(f"sdpa {case}", "it has softmax without bias alone") == "it has softmax without bias alone"
    )
    assert absent == dict.fromkeys([f"meta {case}", f"meta tma {case}"], "it has silu without bias alone")


def test_a_peer_that_computes_something_else_or_fails_is_not_timed(
    attention: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = attention.draw([70, 33], 70, OPTIONS, torch.float32)

    def wrong(batch: Any, kind: str, biased: bool) -> Any:
        return attention.ours(batch, "silu", biased, "reference")

    def broken(batch: Any, kind: str, biased: bool) -> Any:
        raise RuntimeError("no such\ndevice")

    monkeypatch.setattr(attention, "padded_sdpa", wrong)
    monkeypatch.setattr(attention, "flex", broken)
    absent: dict[str, str] = {}
    assert set(attention.contestants(batch, "softmax", False, OPTIONS, absent)) == {"reference"}
    assert absent["sdpa softmax"].startswith("computes something else: differs from ours by ")
    assert absent["flex softmax"] == "RuntimeError: no such"


def report(**medians: float) -> dict[str, Any]:
    rows = [{"implementation": name, "ms": {"median": value}} for name, value in medians.items()]
    return {"rows": rows, "absent": {"theirs": "it needs a GPU"}}


@pytest.mark.parametrize(
    "medians,verdict,value",
    [
        ({"ours": 2.0, "theirs": 3.0, "theirs_too": 4.0}, "passed", 1.5),
        ({"ours": 2.0, "theirs": 3.0, "theirs_too": 2.8}, "missed", 1.4),
        ({"ours": 2.0, "theirs_too": 4.0}, "passed", 2.0),
        ({"ours": 2.0}, "not judged", None),
    ],
)
def test_a_mark_is_judged_beside_the_fastest_peer_that_was_measured(
    attention: Any, medians: dict[str, float], verdict: str, value: float | None
) -> None:
    marks = importlib.import_module("all")
    mark = marks.Mark("", "", marks.quotient(("theirs", "theirs_too"), "ours"), 1.5, at_least=True)
    judged = marks.judge(mark, report(**medians), small=False)
    assert (judged["verdict"], judged["value"]) == (verdict, value)
    if value is None:
        assert judged["reason"] == "theirs and theirs_too not measured; theirs: it needs a GPU"
    else:
        small = marks.judge(mark, report(**medians), small=True)
        assert (small["verdict"], small["reason"]) == ("not judged", "tiny shapes")


@pytest.mark.kernels
def test_the_classes_of_a_history_are_counted(
    attention: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tile_plan.py", "--lengths", "1000"])
    importlib.import_module("tile_plan").main()
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    for row in rows:
        shares = [row[name] for name in ("uniform", "stepped", "mixed")]
        assert min(shares) > 0
        assert sum(shares) == pytest.approx(1, abs=0.002)
