"""catalogue_topk: each user's k best items of the whole catalogue, without the [users, items] matrix of scores."""

import torch
from torch import Tensor

from footfall.errors import InputError
from footfall_kernels.catalogue_topk.reference import catalogue_topk_reference
from footfall_kernels.checks import FLOATS, check_implementation, check_offsets, check_tensor, check_width


def catalogue_topk(
    user: Tensor,
    table: Tensor,
    k: int,
    *,
    implementation: str,
    excluded: tuple[Tensor, Tensor] | None = None,
    unlisted: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Items with the k largest scores user @ table.T: (item_index int32 [users, k], score fp32 [users, k]).

    user [users, width] and table [num_items + 1, width], both fp32, fp16 or bf16; or an int8 table with its rows'
    `scale` fp32 [num_items + 1], beside a user of any of these: score = scale * (user @ row). Scores are summed in
    fp32. "triton" takes a width of at most 256.

    Row 0 of the table is padding and never scores. excluded (values int32, offsets int64 [users + 1]): packed lists,
    in any order, of the item indices that user u may not get, values[offsets[u] : offsets[u + 1]]; values that are
    no item are ignored. unlisted int32 [any], ascending: the items that nobody may get. Past a user's last item that
    scores, item_index is 0 and score -inf.

    Exact and deterministic: descending scores, equal scores by ascending item index. ("triton" chooses groups of
    items by scores from the tensor cores and sums the chosen ones again in another order: scores that differ by less
    than fp32 rounding may be told apart either way.) No gradients.

    Raises InputError for shapes, dtypes or devices that do not fit, and, on a CPU, for offsets that do not ascend
    from 0 to the number of values. On a GPU offsets are not read
    back: what they place outside the values is ignored.
    """
    check_implementation(implementation, user, table)
    check_tensor("user", user, (None, None), FLOATS)
    check_tensor("table", table, (None, user.shape[1]), (user.dtype, torch.int8), user)
    if table.shape[0] == 0:
        raise InputError("table has 0 rows, expected at least the padding row")
    if k < 1:
        raise InputError(f"k is {k}, expected at least 1")
    if (table.dtype == torch.int8) != (scale is not None):
        raise InputError("scale belongs to an int8 table: give both or neither")
    if scale is not None:
        check_tensor("scale", scale, (table.shape[0],), (torch.float32,), user)
    values, offsets = (None, None) if excluded is None else excluded
    if values is not None and offsets is not None:
        check_tensor("excluded values", values, (None,), (torch.int32,), user)
        check_tensor("excluded offsets", offsets, (user.shape[0] + 1,), (torch.int64,), user)
    if unlisted is not None:
        check_tensor("unlisted", unlisted, (None,), (torch.int32,), user)
    check_width("user", user, implementation)
    item_index, score = _topk(user, table, k, values, offsets, unlisted, scale, implementation)
    return item_index, score


@torch.library.custom_op("footfall::catalogue_topk", mutates_args=())
def _topk(
    user: Tensor,
    table: Tensor,
    k: int,
    values: Tensor | None,
    offsets: Tensor | None,
    unlisted: Tensor | None,
    scale: Tensor | None,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    if values is not None and offsets is not None and offsets.device.type == "cpu":
        check_offsets(offsets, len(values), max_length=len(values))
    if implementation == "reference":
        return catalogue_topk_reference(user, table, k, values, offsets, unlisted, scale)
    from footfall_kernels.catalogue_topk.launcher import catalogue_topk_triton

    return catalogue_topk_triton(user, table, k, values, offsets, unlisted, scale)


@_topk.register_fake
def _(
    user: Tensor,
    table: Tensor,
    k: int,
    values: Tensor | None,
    offsets: Tensor | None,
    unlisted: Tensor | None,
    scale: Tensor | None,
    implementation: str,
) -> tuple[Tensor, Tensor]:
    shape = (user.shape[0], k)
    return user.new_empty(shape, dtype=torch.int32), user.new_empty(shape, dtype=torch.float32)
