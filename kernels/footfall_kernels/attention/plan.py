"""AttentionPlan: what an implementation decides once a batch, for all layers, heads and passes."""

from dataclasses import dataclass

from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.attention.configurations import backward_configuration, forward_configuration
from footfall_kernels.attention.extras import Extras
from footfall_kernels.attention.groups import Groups, group_sequences
from footfall_kernels.attention.rules import AttentionRules
from footfall_kernels.attention.tile_plan import TileLists, TilePlan, TileShape, list_tiles
from footfall_kernels.checks import check_implementation, check_offsets
from footfall_kernels.launch import architecture


@dataclass(frozen=True)
class AttentionPlan:
    """parts: tiles for "triton", groups of sequences for "reference". The rest is what the plan holds for."""

    parts: TilePlan | Groups
    total: int
    window: int
    prefix: int
    num_buckets: tuple[int, int]

    @property
    def implementation(self) -> str:
        return "triton" if isinstance(self.parts, TilePlan) else "reference"

    @property
    def tensors(self) -> list[Tensor]:
        """All that `parts` holds, for an op that takes tensors; `tiles_of` and Groups.of are the inverse."""
        if isinstance(self.parts, TilePlan):
            return [*vars(self.parts.by_query).values(), *vars(self.parts.by_key).values()]
        return self.parts.tensors

    def check(self, implementation: str, total: int, rules: AttentionRules, extras: Extras) -> None:
        """Raises InputError where the plan is of another implementation, batch, mask or number of buckets."""
        if implementation != self.implementation:
            raise InputError(
                f"the plan is of implementation {self.implementation!r}, the call of {implementation!r}"
            )
        for name, planned, got in (
            ("events", self.total, total),
            ("window", self.window, rules.window),
            ("prefix", self.prefix, rules.prefix),
            ("position and time buckets", self.num_buckets, extras.num_buckets),
        ):
            if planned != got:
                raise InputError(f"the plan was made for {name} {planned}, the call has {got}")


def plan_attention(
    query: Tensor,
    offsets: Tensor,
    rules: AttentionRules,
    max_length: int,
    extras: Extras,
    *,
    implementation: str,
    trusted: bool = False,
) -> AttentionPlan:
    """The plan of a batch for every layer of this head_dim and dtype and these rules; `query` lends its shape only.

    Of extras, num_candidates and time are the batch's; of the tables, only their numbers of buckets matter, and of
    rules only window and prefix. Raises InputError. Checks the offsets, which on a GPU waits for them, unless they
    are trusted; "triton" then also takes offsets that end before `query` does: what lies behind is of no sequence.
    """
    check_implementation(implementation, query)
    if not trusted:
        _check_lengths(offsets, len(query), max_length, extras.num_candidates)
    parts: TilePlan | Groups
    if implementation == "reference":
        parts = group_sequences(offsets, rules, extras)
    else:
        parts = _plan_tiles(query, offsets, rules, max_length, extras)
    return AttentionPlan(parts, len(query), rules.window, rules.prefix, extras.num_buckets)


def _plan_tiles(
    query: Tensor, offsets: Tensor, rules: AttentionRules, max_length: int, extras: Extras
) -> TilePlan:
    arch, head_dim = architecture(query.device), query.shape[2]
    forward = forward_configuration(arch, head_dim, query.dtype)
    backward = backward_configuration(arch, head_dim, query.dtype)
    num_position, num_time = extras.num_buckets

    def lists(shape: TileShape, by_key: bool) -> TileLists:
        return list_tiles(
            offsets, max_length, rules, shape, by_key=by_key, num_candidates=extras.num_candidates,
            time=extras.time if num_time else None, num_position_buckets=num_position,
            num_time_buckets=num_time, total=len(query),
        )  # fmt: skip

    return TilePlan(
        lists(TileShape(forward.queries, forward.keys), by_key=False),
        lists(TileShape(backward.queries, backward.keys), by_key=True),
    )


def tiles_of(tensors: list[Tensor]) -> TilePlan:
    return TilePlan(TileLists(*tensors[:3]), TileLists(*tensors[3:]))


def _check_lengths(offsets: Tensor, total: int, max_length: int, num_candidates: Tensor | None) -> None:
    check_offsets(offsets, total, max_length)
    if num_candidates is None:
        return
    for sequence, (count, length) in enumerate(
        zip(num_candidates.tolist(), offsets.diff().tolist(), strict=True)
    ):
        if not 0 <= count <= length:
            raise InputError(
                f"num_candidates of sequence {sequence} is {count}, more than its {length} events"
            )
