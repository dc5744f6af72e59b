"""catalogue_topk: the k best items, by both implementations, against a stable sort of all scores in fp64.

Small integers make every score exact in every dtype, and tie many of them: indices must be equal, not only close.
"""

import pytest
import torch
from conftest import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.catalogue_topk import largest, launcher, reference
from footfall_kernels.catalogue_topk.catalogue_topk import catalogue_topk

pytestmark = pytest.mark.kernels

IMPLEMENTATIONS = ("reference", "triton")
DTYPES = [
    (torch.float32, torch.float32),
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.bfloat16),
    (torch.float32, torch.int8),
    (torch.float16, torch.int8),
    (torch.bfloat16, torch.int8),
]
Lists = tuple[Tensor, Tensor]
POISON = -77
"""What an integer that nobody wrote holds."""


def integers(shape: tuple[int, int], dtype: torch.dtype, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=random).to(dtype).to(DEVICE)


def lists(users: int, items: int, longest: int, seed: int) -> Lists:
    """Of lengths 0 to `longest`, with repeats and with values that are no item."""
    random = torch.Generator().manual_seed(seed)
    offsets = torch.zeros(users + 1, dtype=torch.int64)
    offsets[1:] = torch.randint(0, longest + 1, (users,), generator=random).cumsum(0)
    values = torch.randint(-2, items + 40, (int(offsets[-1]),), generator=random, dtype=torch.int32)
    return values.to(DEVICE), offsets.to(DEVICE)


def expected(
    user: Tensor,
    table: Tensor,
    k: int,
    excluded: Lists | None,
    scale: Tensor | None,
    unlisted: Tensor | None = None,
) -> Lists:
    score = user.double() @ table.double().T
    if scale is not None:
        score *= scale.double()
    score[:, 0] = -torch.inf
    if excluded is not None:
        values, offsets = excluded
        for row in range(len(user)):
            items = values[offsets[row] : offsets[row + 1]].long()
            score[row, items[(items > 0) & (items < len(table))]] = -torch.inf
    if unlisted is not None:
        score[:, unlisted.long()] = -torch.inf
    score, index = score.sort(dim=1, descending=True, stable=True)
    index = index.masked_fill(score == -torch.inf, 0)
    missing = (0, max(k - len(table), 0))
    score = torch.nn.functional.pad(score[:, :k], missing, value=-torch.inf)
    return torch.nn.functional.pad(index[:, :k], missing).int(), score.float()


def assert_exact(
    user: Tensor,
    table: Tensor,
    k: int,
    excluded: Lists | None = None,
    scale: Tensor | None = None,
    unlisted: Tensor | None = None,
) -> None:
    want = expected(user, table, k, excluded, scale, unlisted)
    for implementation in IMPLEMENTATIONS:
        got = catalogue_topk(
            user,
            table,
            k,
            implementation=implementation,
            excluded=excluded,
            scale=scale,
            unlisted=unlisted,
        )
        for mine, right in zip(got, want, strict=True):
            assert mine.dtype == right.dtype
            assert torch.equal(mine, right), implementation


@pytest.mark.parametrize("excludes", [False, True], ids=["all items", "exclusions"])
@pytest.mark.parametrize("of_user,of_table", DTYPES, ids=str)
def test_items_scores_and_order_are_those_of_a_stable_sort(
    of_user: torch.dtype, of_table: torch.dtype, excludes: bool
) -> None:
    user, table = integers((5, 64), of_user, 1), integers((1500, 64), of_table, 2)
    scale = 2.0 ** integers((1, 1500), torch.float32, 3)[0] if of_table == torch.int8 else None
    assert_exact(user, table, 10, lists(5, 1500, 90, 4) if excludes else None, scale)


@pytest.mark.parametrize("width", [1, 24, 32, 100, 128, 200, 256])
def test_any_width_up_to_256(width: int) -> None:
    assert_exact(integers((3, width), torch.float16, 1), integers((333, width), torch.float16, 2), 7)


@pytest.mark.parametrize("users", [1, 64, 65])
def test_any_number_of_users(users: int) -> None:
    user, table = integers((users, 16), torch.float16, 1), integers((130, 16), torch.float16, 2)
    assert_exact(user, table, 1, lists(users, 129, 20, 3))


@pytest.mark.parametrize("rows", [2, 31, 32, 33, 64, 65, 129])
def test_the_edges_of_groups_and_more_wanted_than_there_are(rows: int) -> None:
    user, table = integers((2, 16), torch.float32, 1), integers((rows, 16), torch.float32, 2)
    for k in (1, 40, 128):
        assert_exact(user, table, k, lists(2, rows - 1, 12, 3))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 700), st.integers(1, 40), st.integers(1, 30), st.integers(0, 60))
def test_odd_shapes(users: int, rows: int, width: int, k: int, longest: int) -> None:
    user, table = integers((users, width), torch.float32, rows), integers((rows, width), torch.float32, width)
    assert_exact(user, table, k, lists(users, rows - 1, longest, k))


@pytest.mark.parametrize("excludes", [False, True], ids=["all items", "exclusions"])
@pytest.mark.parametrize("count", [0, 1, 700, 1499])
def test_nobody_gets_what_is_not_listed(count: int, excludes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "CHUNK_SCORES", 1)  # chunks of 1,024 items
    user, table = integers((3, 16), torch.float32, 1), integers((1500, 16), torch.float32, 2)
    random = torch.Generator().manual_seed(3)
    items = torch.randperm(1499, generator=random)[:count].sort().values + 1
    excluded = lists(3, 1499, 90, 4) if excludes else None
    assert_exact(user, table, 10, excluded, unlisted=items.int().to(DEVICE))


def test_a_user_who_has_seen_everything_gets_nothing() -> None:
    user, table = integers((2, 16), torch.float32, 1), integers((50, 16), torch.float32, 2)
    everything = torch.arange(1, 50, dtype=torch.int32, device=DEVICE).flip(0)
    excluded = (everything, torch.tensor([0, 49, 49], device=DEVICE))
    assert_exact(user, table, 5, excluded)
    for implementation in IMPLEMENTATIONS:
        index, score = catalogue_topk(user, table, 5, implementation=implementation, excluded=excluded)
        assert index[0].tolist() == [0] * 5
        assert score[0].tolist() == [-torch.inf] * 5


def test_a_catalogue_of_equal_items_is_answered_by_index() -> None:
    user, table = torch.zeros(2, 16, device=DEVICE), integers((2000, 16), torch.float32, 2)
    user[1] = -0.0
    for implementation in IMPLEMENTATIONS:
        index, _ = catalogue_topk(user, table, 5, implementation=implementation)
        assert index.tolist() == [[1, 2, 3, 4, 5]] * 2


def test_the_largest_maxima_are_found_below_several_levels_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "MOST_ROOTS", 100)
    maxima = integers((3, 40_001), torch.float32, 5) * integers((3, 40_001), torch.float32, 6)
    chosen = launcher._descend(maxima, largest.group_maxima(maxima), 6)
    assert torch.equal(chosen.long(), largest.largest_index(maxima, 6))


def test_more_than_a_program_can_sort_are_chosen_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "MOST_KEPT", 4)
    user, table = integers((2, 16), torch.float32, 1), integers((1500, 16), torch.float32, 2)
    assert_exact(user, table, 5, lists(2, 1499, 90, 3))


def test_the_order_that_a_gpu_finds_by_sorting_is_that_of_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "interpreted", lambda: False)
    assert_exact(integers((1, 16), torch.float32, 1), integers((1100, 16), torch.float32, 2), 3)


def test_no_users_and_no_items_are_answered() -> None:
    assert_exact(integers((0, 16), torch.float32, 1), integers((50, 16), torch.float32, 2), 3)
    assert_exact(integers((3, 16), torch.float32, 1), integers((1, 16), torch.float32, 2), 3)


@pytest.mark.parametrize(
    "dtype,tolerance", [(torch.float32, 1e-5), (torch.float16, 1e-5), (torch.bfloat16, 1e-5)]
)
def test_real_scores_are_right_to_fp32(dtype: torch.dtype, tolerance: float) -> None:
    random = torch.Generator().manual_seed(0)
    user = torch.randn(3, 48, generator=random).to(DEVICE, dtype)
    table = torch.randn(900, 48, generator=random).to(DEVICE, dtype)
    index, score = expected(user, table, 9, None, None)
    for implementation in IMPLEMENTATIONS:
        mine = catalogue_topk(user, table, 9, implementation=implementation)
        assert torch.equal(mine[0], index)
        torch.testing.assert_close(mine[1], score, rtol=tolerance, atol=tolerance)


def test_negative_scores_and_infinities_keep_their_order() -> None:
    value = torch.tensor([[-1.0, -torch.inf, 3e38, -0.0, 0.0, -1e-45, 1e-45, torch.inf, -3e38]])
    index, top = largest.decode(largest.largest_keys(value, 9), 9)
    assert index.tolist() == [[7, 2, 6, 3, 4, 5, 0, 8, 0]]
    assert torch.equal(top, value.sort(descending=True, stable=True).values + 0.0)


def test_maxima_of_maxima_find_the_largest_of_many() -> None:
    value = integers((3, 40_001), torch.float32, 5) * integers((3, 40_001), torch.float32, 6)
    want = value.sort(dim=1, descending=True, stable=True).indices[:, :6]
    assert torch.equal(largest.largest_index(value, 6), want)


def test_nothing_is_written_outside_the_outputs_and_poison_past_the_inputs_is_never_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user, table = integers((3, 24), torch.float32, 1), integers((150, 24), torch.float32, 2)
    excluded = lists(3, 149, 30, 3)
    want = expected(user, table, 6, excluded, None)
    fences: list[tuple[Tensor, int]] = []
    new_empty = Tensor.new_empty

    def fenced(
        like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None, **rest: object
    ) -> Tensor:
        if rest:  # the interpreter's own
            return new_empty(like, shape, dtype=dtype, **rest)  # type: ignore[call-overload, no-any-return]
        size = torch.Size(shape)
        poison = torch.nan if dtype == torch.float32 else POISON
        whole = torch.full((size.numel() + 128,), poison, dtype=dtype, device=like.device)
        fences.append((whole, size.numel()))
        return whole[64 : 64 + size.numel()].view(size)

    monkeypatch.setattr(Tensor, "new_empty", fenced)
    got = launcher.catalogue_topk_triton(
        _surrounded(user), _surrounded(table), 6, *excluded, unlisted=None, scale=None
    )
    monkeypatch.undo()
    assert len(fences) == 7  # maxima, those of nodes, best nodes, best groups, their scores, index, score
    for whole, size in fences:
        poisoned = whole.isnan() if whole.is_floating_point() else whole == POISON
        assert poisoned[:64].all()
        assert not poisoned[64 : 64 + size].any()
        assert poisoned[64 + size :].all()
    for mine, right in zip(got, want, strict=True):
        assert torch.equal(mine, right)


def _surrounded(tensor: Tensor) -> Tensor:
    whole = torch.full((tensor.numel() + 8192,), torch.nan, dtype=tensor.dtype, device=tensor.device)
    return whole[4096 : 4096 + tensor.numel()].view(tensor.shape).copy_(tensor)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_op_passes_torchs_own_checks_and_compiles_without_a_graph_break(implementation: str) -> None:
    user, table = integers((3, 16), torch.float32, 1), integers((50, 16), torch.float32, 2)
    values, offsets = lists(3, 49, 9, 3)
    torch.library.opcheck(
        torch.ops.footfall.catalogue_topk.default,
        (user, table, 5, values, offsets, values[:2].sort().values, None, implementation),
    )

    def top(user: Tensor) -> Tensor:
        return catalogue_topk(user + 1, table, 5, implementation=implementation, excluded=(values, offsets))[
            0
        ]

    compiled = torch.compile(top, fullgraph=True, backend="eager")
    assert torch.equal(compiled(user), top(user))


FOUR_ITEMS = torch.zeros(5, 4)


@pytest.mark.parametrize(
    "change,sentence",
    [
        ({"implementation": "cuda"}, "unknown implementation 'cuda'"),
        ({"user": torch.zeros(4)}, r"user has shape \[4\], expected \[any, any\]"),
        ({"user": torch.zeros(2, 4).int()}, "user is int32, expected float32"),
        ({"table": torch.zeros(5, 3)}, r"table has shape \[5, 3\], expected \[any, 4\]"),
        ({"table": torch.zeros(5, 4).half()}, "table is float16, expected float32, int8"),
        ({"table": torch.zeros(0, 4)}, "table has 0 rows"),
        ({"table": torch.zeros(5, 4, device="meta")}, "table is on meta"),
        ({"k": 0}, "k is 0, expected at least 1"),
        ({"table": FOUR_ITEMS.to(torch.int8)}, "scale belongs to an int8 table"),
        ({"scale": torch.ones(5)}, "scale belongs to an int8 table"),
        (
            {"table": FOUR_ITEMS.to(torch.int8), "scale": torch.ones(4)},
            r"scale has shape \[4\], expected \[5\]",
        ),
        ({"excluded": (torch.ones(2).long(), torch.tensor([0, 1, 2]))}, "excluded values is int64"),
        ({"excluded": (torch.ones(2).int(), torch.tensor([0, 2]))}, r"excluded offsets has shape \[2\]"),
        ({"excluded": (torch.ones(2).int(), torch.tensor([0, 2, 1]))}, "offsets do not ascend: 2"),
        ({"excluded": (torch.ones(2).int(), torch.tensor([0, 1, 1]))}, "offsets end at 1"),
    ],
)
def test_what_does_not_fit_is_one_sentence(change: dict[str, object], sentence: str) -> None:
    arguments = {"user": torch.zeros(2, 4), "table": FOUR_ITEMS, "k": 3, "implementation": "reference"}
    with pytest.raises(InputError, match=sentence):
        catalogue_topk(**{**arguments, **change})  # type: ignore[arg-type]


def test_a_width_that_no_kernel_was_written_for_is_refused() -> None:
    user, table = torch.zeros(2, 300, device=DEVICE), torch.zeros(5, 300, device=DEVICE)
    with pytest.raises(InputError, match="user is 300 wide, implementation 'triton' takes up to 256"):
        catalogue_topk(user, table, 3, implementation="triton")
