"""Ahead-of-time compilation: every shipped variant for a chip that is not there, and what the compiler made of it.

    python -m footfall_kernels.ahead_of_time [--arch 90] [--only attention] [--named "d64 bf16"] [--markdown]

Needs no GPU. One JSON line a variant: registers, stack and shared memory in bytes, tensor-core and TMA instructions,
and the cost of its inner loop, in SASS instructions and special-function (MUFU) operations per score.
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ARCHITECTURES = (80, 90, 100)
SHARED_MEMORY_LIMIT = {80: 166_912, 90: 232_448, 100: 232_448}
"""Bytes one program may use (CUDA C++ Programming Guide, table of compute capabilities)."""
OPS = {
    "attention": "variants",
    "catalogue_topk": "launcher",
    "decode_attention": "launcher",
    "embed_events": "launcher",
    "linear_cross_entropy": "launcher",
}
"""Each operation, and the module of its folder that lists what is shipped of it."""
TENSOR_CORE = re.compile(r"^(HGMMA|QGMMA|HMMA|QMMA|IMMA|IGMMA|UTCHMMA|UTCQMMA|UTCIMMA)")
OPERATION = re.compile(
    r"^\s+/\*([0-9a-f]{4,5})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*(.*?);", re.MULTILINE
)
NO_LOOP = (0, 0)


@dataclass(frozen=True)
class Facts:
    """What was compiled, and the result. Counts are of the whole kernel, `*_per_score` of its interior loop."""

    name: str
    arch: int
    num_warps: int
    registers: int
    stack: int
    shared: int
    wgmma: int
    mma_sync: int
    tcgen05: int
    tma_loads: int
    tma_reductions: int
    instructions_per_score: float
    mufu_per_score: float


def shipped(arch: int, only: str = "", named: str = "") -> Iterator[Any]:
    """Variants for the chip of every op whose name starts with `only`, where theirs hold `named`."""
    for op, module in OPS.items():
        if op.startswith(only):
            variants = importlib.import_module(f"footfall_kernels.{op}.{module}").variants(arch)
            yield from (variant for variant in variants if named in variant.name)


def compile_all(archs: Iterable[int], only: str, named: str) -> Iterator[Facts]:
    """Every shipped variant for each chip, in order; one process a core."""
    names = [(arch, variant.name) for arch in archs for variant in shipped(arch, only, named)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield from pool.map(_compile_named, *zip(*names, strict=True)) if names else ()


def _compile_named(arch: int, name: str) -> Facts:
    """A kernel cannot be sent to another process, its variant's name can."""
    return compile_variant(next(variant for variant in shipped(arch) if variant.name == name), arch)


def compile_variant(variant: Any, arch: int) -> Facts:
    """Compile for sm_<arch> and read the binary."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.kernel.arg_names
    constants = variant.constants
    source = ASTSource(
        fn=variant.kernel,
        signature={name: "constexpr" if name in constants else variant.signature[name] for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in variant.aligned},
    )
    options = {"num_warps": variant.num_warps, "num_stages": variant.num_stages, **variant.options}
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    resources, sass = _disassemble(compiled.asm["cubin"])
    instructions, mufu = _loop_cost(sass)
    per_score = variant.num_warps * 32 / variant.scores if variant.scores else 0.0
    ptx = compiled.asm["ptx"]
    return Facts(
        variant.name,
        arch,
        variant.num_warps,
        resources["REG"],
        resources["STACK"],
        compiled.metadata.shared,
        ptx.count("wgmma.mma_async"),
        len(re.findall(r"\bmma\.sync", ptx)),
        ptx.count("tcgen05.mma"),
        ptx.count("cp.async.bulk.tensor"),
        ptx.count("cp.reduce.async.bulk"),
        round(instructions * per_score, 2),
        round(mufu * per_score, 2),
    )


def _disassemble(cubin: bytes) -> tuple[dict[str, int], str]:
    """Registers and stack as the driver would see them, and the SASS; by the tools inside the triton package."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, sass = (
            subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("-res-usage", "-sass")
        )
    return {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", usage)}, sass


def _loop_cost(sass: str) -> tuple[int, int]:
    """Instructions and MUFU operations of the tensor-core loop with the fewest instructions a product.

    A loop is a backward branch and what it encloses; of nested ones the innermost with tensor-core work counts.
    """
    operations = [(int(at, 16), name, rest) for at, name, rest in OPERATION.findall(sass)]
    costs = []
    for start, end in _loops(operations):
        inside = [name for at, name, _ in operations if start <= at <= end]
        products = sum(bool(TENSOR_CORE.match(name)) for name in inside)
        encloses = any(
            start <= low and high <= end and (low, high) != (start, end) for low, high in _loops(operations)
        )
        if products and not encloses:
            costs.append((len(inside), Counter(name.split(".")[0] for name in inside)["MUFU"], products))
    if not costs:
        return NO_LOOP
    most = max(products for _, _, products in costs)
    length, mufu, _ = min(cost for cost in costs if cost[2] == most)
    return length, mufu


def _loops(operations: list[tuple[int, str, str]]) -> list[tuple[int, int]]:
    loops = []
    for at, name, rest in operations:
        target = re.search(r"0x([0-9a-f]+)", rest)
        if name.startswith("BRA") and target and int(target.group(1), 16) < at:
            loops.append((int(target.group(1), 16), at))
    return loops


def markdown(rows: list[Facts]) -> str:
    """The rows as the table of docs/kernels.md."""
    names = list(asdict(rows[0]))
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(value) for value in asdict(row).values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", type=int, action="append", choices=ARCHITECTURES, help="default: all")
    parser.add_argument("--only", default="", help="ops whose name starts so")
    parser.add_argument("--named", default="", help="variants whose name holds this")
    parser.add_argument("--markdown", action="store_true", help="end with a table instead")
    options = parser.parse_args()
    os.environ.pop("TRITON_INTERPRET", None)
    rows = []
    for facts in compile_all(options.arch or ARCHITECTURES, options.only, options.named):
        rows.append(facts)
        if not options.markdown:
            print(json.dumps(asdict(facts)), flush=True)
    if options.markdown:
        print(markdown(rows))


if __name__ == "__main__":
    main()
