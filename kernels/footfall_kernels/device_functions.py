"""Device functions: the pieces of a kernel's inner loop that several kernels share."""

import triton
import triton.language as tl


@triton.jit
def tanh(x):  # type: ignore[no-untyped-def]
    """One MUFU operation; relative error up to 2^-11. Inline assembly: not for the interpreter."""
    return tl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit  # type: ignore[untyped-decorator]
def sigmoid(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)) of fp32. FAST: one MUFU and two FMA; else by exp of -|x|, which cannot overflow."""
    if FAST:
        result = 0.5 * tanh(0.5 * x) + 0.5
    else:
        small = tl.exp(-tl.abs(x))
        result = tl.where(x >= 0, 1.0, small) / (1.0 + small)
    return result


@triton.jit  # type: ignore[untyped-decorator]
def silu(x, FAST: tl.constexpr):  # type: ignore[no-untyped-def]
    """x * sigmoid(x) of fp32. FAST: h * tanh(h) + h with h = x / 2, one MUFU a value (exp and rcp are two)."""
    if FAST:
        half = 0.5 * x
        result = half * tanh(half) + half
    else:
        result = x * sigmoid(x, FAST)
    return result


@triton.jit  # type: ignore[untyped-decorator]
def bucket_of(distance, NUM: tl.constexpr):  # type: ignore[no-untyped-def]
    """min(bit_length(max(distance, 0)), NUM - 1) of int32: 0, 1, 2..3, 4..7, ... -> 0, 1, 2, 3, ...

    The exponent of a float is the bit length, once the bit that would round a number past 2^24 up is cleared (one
    LOP3 with the shift's sign bits masked); a negative number's sign bit makes the shifted exponent negative.
    NUM >= 32 costs no upper bound: a table padded to 32 with its last value saves it.
    """
    exact = (distance & ~((distance >> 24) & 0x7F)).to(tl.float32)
    length = tl.maximum((exact.to(tl.int32, bitcast=True) >> 23) - 126, 0)
    if NUM < 32:
        length = tl.minimum(length, NUM - 1)
    return length
