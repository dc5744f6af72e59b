"""Variants: every compilation of the attention kernels that is shipped."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from footfall_kernels.attention.backward_by_key import attention_backward_by_key
from footfall_kernels.attention.backward_by_query import attention_backward_by_query
from footfall_kernels.attention.configurations import (
    FIRST_FP8_ARCH,
    Configuration,
    adds_query_gradients,
    backward_configuration,
    forward_configuration,
    reduces_by_tma,
)
from footfall_kernels.attention.forward_kernel import attention_forward
from footfall_kernels.attention.tiles import SILU, SOFTMAX
from footfall_kernels.launch import Variant, interpreted, upcast

STRIDES = (
    "query_row",
    "key_row",
    "value_row",
    "output_row",
    "query_head",
    "key_head",
    "value_head",
    "output_head",
)
FORWARD_STRIDES = tuple(name for name in STRIDES if name != "output_head")
INTEGERS = (*STRIDES, "total_rows", "most_tiles", "window", "prefix")
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BIASES = {"": (0, 0), " + position and time bias": (32, 40)}


def kernel_constants(
    kind: str,
    num_position: int,
    num_time: int,
    head_dim: int,
    dtype: torch.dtype,
    configuration: Configuration,
) -> dict[str, int | bool | str]:
    """The constexprs that all three kernels share."""
    return {
        "KIND": (SILU if kind == "silu" else SOFTMAX).value,
        "NUM_POSITION": num_position,
        "NUM_TIME": num_time,
        "TABLE": 1 << (max(num_position, num_time, 2) - 1).bit_length(),
        "D": head_dim,
        "QUERIES": configuration.queries,
        "KEYS": configuration.keys,
        "FAST": not interpreted(),
        "UPCAST": upcast(dtype),
        "PRECISION": "ieee" if dtype == torch.float32 else "tf32",
        "TMA": configuration.tma,
        "PART": configuration.part,
    }


def variants(arch: int) -> Iterator[Variant]:
    """Every kind, head_dim and half precision, without and with both tables; all three kernels.

    By key "alone": without query gradients, which a pass by queries computes. fp8: queries and keys, forward,
    beside bf16.
    """
    for kind in ("silu", "softmax"):
        for head_dim in (32, 64, 128):
            if arch >= FIRST_FP8_ARCH:
                for bias in BIASES:
                    yield _forward_of_fp8(arch, kind, head_dim, bias)
            for type_ in TYPES:
                for bias in BIASES:
                    yield _forward(arch, kind, head_dim, type_, bias)
                    if adds_query_gradients(arch, head_dim):
                        yield _by_key(arch, kind, head_dim, type_, bias, add_query=True)
                    yield _by_key(arch, kind, head_dim, type_, bias, add_query=False)
                    yield _by_query(arch, kind, head_dim, type_, bias)


def _forward(arch: int, kind: str, head_dim: int, type_: str, bias: str) -> Variant:
    configuration = forward_configuration(arch, head_dim, TYPES[type_])
    tiles = _packed(type_, configuration.keys, head_dim, configuration)
    signature = _signature(type_, configuration, head_dim) | {
        "KeyTiles": tiles,
        "ValueTiles": tiles,
        "Output": f"*{type_}",
    }
    return Variant(
        f"attention forward {kind} d{head_dim} {type_}{bias}",
        attention_forward,
        signature,
        kernel_constants(kind, *BIASES[bias], head_dim, TYPES[type_], configuration),
        _aligned(signature, FORWARD_STRIDES),
        configuration.num_warps,
        configuration.num_stages,
        configuration.queries * configuration.keys,
        {"maxnreg": configuration.max_registers},
    )


def _forward_of_fp8(arch: int, kind: str, head_dim: int, bias: str) -> Variant:
    variant = _forward(arch, kind, head_dim, "bf16", bias)
    narrow = {
        name: variant.signature[name].replace("bf16", "fp8e4nv") for name in ("Query", "Key", "KeyTiles")
    }
    name = f"attention forward {kind} d{head_dim} fp8{bias}"
    return replace(variant, name=name, signature={**variant.signature, **narrow})


def _by_key(arch: int, kind: str, head_dim: int, type_: str, bias: str, add_query: bool) -> Variant:
    configuration = backward_configuration(arch, head_dim, TYPES[type_])
    reduce = reduces_by_tma(arch)
    query_gradient = f"tensordesc<fp32[{configuration.queries},{head_dim}]>" if reduce else "*fp32"
    signature = _signature(type_, configuration, head_dim) | {
        **dict.fromkeys(("Query", "OutputGradient"), f"*{type_}"),
        **dict.fromkeys(
            ("QueryTiles", "OutputTiles"), _packed(type_, configuration.queries, head_dim, configuration)
        ),
        "Delta": "*fp32",
        "QueryGradient": "*fp32",
        "QueryGradientTiles": query_gradient,
        "KeyGradient": f"*{type_}",
        "ValueGradient": f"*{type_}",
        "TableGradient": "*fp32",
    }
    constants = kernel_constants(kind, *BIASES[bias], head_dim, TYPES[type_], configuration)
    return Variant(
        f"attention backward by key{'' if add_query else ' alone'} {kind} d{head_dim} {type_}{bias}",
        attention_backward_by_key,
        signature,
        constants | {"ADD_QUERY": add_query, "REDUCE": reduce},
        _aligned(signature, STRIDES),
        configuration.num_warps,
        configuration.num_stages,
        configuration.queries * configuration.keys,
        {"maxnreg": configuration.max_registers},
    )


def _by_query(arch: int, kind: str, head_dim: int, type_: str, bias: str) -> Variant:
    configuration = forward_configuration(arch, head_dim, TYPES[type_])
    tiles = _packed(type_, configuration.keys, head_dim, configuration)
    signature = _signature(type_, configuration, head_dim) | {
        "KeyTiles": tiles,
        "ValueTiles": tiles,
        "OutputGradient": _packed(type_, configuration.queries, head_dim, configuration),
        "Delta": "*fp32",
        "QueryGradient": "*fp32",
    }
    return Variant(
        f"attention backward by query {kind} d{head_dim} {type_}{bias}",
        attention_backward_by_query,
        signature,
        kernel_constants(kind, *BIASES[bias], head_dim, TYPES[type_], configuration),
        _aligned(signature, STRIDES),
        configuration.num_warps,
        configuration.num_stages,
        configuration.queries * configuration.keys,
        {"maxnreg": configuration.max_registers},
    )


def _signature(type_: str, configuration: Configuration, head_dim: int) -> dict[str, str]:
    """Types of the arguments that the kernels share."""
    return {
        "Query": _packed(type_, configuration.queries, head_dim, configuration),
        **dict.fromkeys(("Key", "Value"), f"*{type_}"),
        **dict.fromkeys(("Blocks", "Counts", "Tiles", "Time"), "*i32"),
        **dict.fromkeys(("LogSum", "PositionBias", "TimeBias"), "*fp32"),
        **dict.fromkeys(("scale", "inverse_normaliser"), "fp32"),
        **dict.fromkeys(INTEGERS, "i32"),
    }


def _packed(type_: str, rows: int, head_dim: int, configuration: Configuration) -> str:
    return f"tensordesc<{type_}[{rows},{head_dim}]>" if configuration.tma else f"*{type_}"


def _aligned(signature: dict[str, str], strides: tuple[str, ...]) -> tuple[str, ...]:
    return (*(name for name, type_ in signature.items() if type_.startswith("*")), *strides)
