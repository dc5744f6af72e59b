"""How the reference of attention lays a batch out: runs as they are, like lengths padded, and nothing that leaks."""

import subprocess
import sys

import pytest
import torch
from attention_case import RULES, Case, assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from footfall_kernels.attention import groups as attention_groups
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.groups import Groups, group_sequences
from footfall_kernels.attention.rules import AttentionRules, Kind

# A padded group of 3, one empty sequence, a run of 16, a padded group of 2 and a sequence that is its own run.
LENGTHS = (10, 0, 12, 11, *[3] * 16, 2, 5, 2)


def group(lengths: tuple[int, ...], kind: Kind = "silu") -> Groups:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return group_sequences(offsets, AttentionRules(kind, 1.0), Extras())


def test_neighbours_of_one_length_are_runs_and_like_lengths_are_padded() -> None:
    groups = group(LENGTHS).groups
    assert [tuple(one.slot.shape) for one in groups] == [(16, 3), (3, 12), (1, 5), (2, 2)]
    assert [one.is_run for one in groups] == [True, False, True, False]
    assert [len(one.padding) for one in groups] == [0, 3, 0, 0]
    events = torch.cat(
        [one.slot.flatten()[one.cell] if len(one.cell) else one.slot.flatten() for one in groups]
    )
    assert events.sort().values.tolist() == list(range(sum(LENGTHS)))


def test_groups_are_bounded_where_scores_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_groups, "GROUP_PAIRS", 10 * 9)
    assert [len(one.slot) for one in group((3,) * 25).groups] == [10, 10, 5]
    assert [len(one.slot) for one in group((3,) * 25, "softmax").groups] == [25]


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("rules", RULES)
def test_groups_of_every_sort_become_the_definition(kind: Kind, rules: str) -> None:
    case = Case.make("cpu", kind, lengths=LENGTHS, **RULES[rules])
    if "num_candidates" in case.options:
        case.options["num_candidates"] = torch.tensor(
            [place % (length + 1) for place, length in enumerate(LENGTHS)]
        )
    assert_close(case.run("reference"), case.define(), torch.float32)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(0, 3) | st.integers(0, 20), min_size=1, max_size=6),
    repeats=st.integers(1, 17),
    kind=st.sampled_from(["softmax", "silu"]),
    biased=st.booleans(),
)
def test_any_lengths(lengths: list[int], repeats: int, kind: Kind, biased: bool) -> None:
    many = (*lengths, *lengths[:1] * repeats)
    case = Case.make("cpu", kind, lengths=many, head_dim=3, position=biased, time=biased)
    if sum(many):
        assert_close(case.run("reference"), case.define(), torch.float32)
    else:
        assert not any(len(result) and result.any() for result in case.run("reference"))


@pytest.mark.parametrize("kind", ["softmax", "silu"])
@pytest.mark.parametrize("biased", [False, True])
def test_what_surrounds_a_sequence_never_reaches_it(kind: Kind, biased: bool) -> None:
    """Canaries: of three sequences of one padded group the second, and all rows around the batch, are NaN."""
    lengths, edge = (12, 10, 11), 4
    assert len(group(lengths).groups) == 1
    case = Case.make("cpu", kind, lengths=lengths, position=biased, time=biased)
    clean = case.run("reference")
    inside = case.fused.new_full((edge + sum(lengths) + edge, *case.fused.shape[1:]), torch.nan)[edge:-edge]
    inside.copy_(case.fused)
    inside[12:22] = torch.nan
    case.fused = inside
    spoilt = case.run("reference")
    for one, other in zip(spoilt[:2], clean[:2], strict=True):
        assert torch.equal(one[:12], other[:12])
        assert torch.equal(one[22:], other[22:])
        assert one[12:22].isnan().any()


def test_the_reference_runs_where_there_is_no_triton() -> None:
    script = """
import sys
sys.modules["triton"] = None
import torch
from footfall_kernels.attention.attention import attention
query = torch.ones(7, 2, 5, requires_grad=True)
offsets = torch.tensor([0, 3, 7])
output = attention(query, query, query, offsets, implementation="reference", kind="silu", max_length=4)
output.sum().backward()
print(query.grad.isfinite().all().item())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
