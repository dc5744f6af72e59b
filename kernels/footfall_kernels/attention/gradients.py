"""Attention gradients: what both backward kernels do alike with one tile of scores."""

import triton
import triton.language as tl

from footfall_kernels.attention.tiles import LOG2E, SILU
from footfall_kernels.device_functions import sigmoid, tanh


@triton.jit  # type: ignore[untyped-decorator]
def score_gradients(  # type: ignore[no-untyped-def]
    product, bias, output_product, log_sum, visible, scale,
    KIND: tl.constexpr, MASK: tl.constexpr, BIAS_LAST: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Weights of a tile and gradients of its scores, from query . key, output gradient . value - delta and
    the bias in its `bias_unit`.

    BIAS_LAST: for rows of queries with a bias a pair. The sum of a bias of many layouts and a row's log_sum would go
    through shared memory (152 to 416 bytes spilled on sm_90); the sum of product and log_sum does not.
    """
    if KIND == SILU:
        half = product * (0.5 * scale) + bias
        if FAST:
            turn = tanh(half)
            gate = 0.5 * turn + 0.5
            weight = half * turn + half
        else:
            gate = sigmoid(2.0 * half, FAST)
            weight = 2.0 * half * gate
        gradient = output_product * (
            gate * (1.0 - weight) + weight
        )  # silu' = gate + score * gate * (1 - gate)
    else:
        if BIAS_LAST:
            weight = tl.exp2(product * (scale * LOG2E) - log_sum + bias)
        else:
            weight = tl.exp2(product * (scale * LOG2E) + (bias - log_sum))
        gradient = weight * output_product
    if MASK:
        weight = tl.where(visible, weight, 0.0)
        gradient = tl.where(visible, gradient, 0.0)
    return weight, gradient
