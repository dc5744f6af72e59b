"""`footfall export`: a checkpoint becomes the next version of a model repository."""

from pathlib import Path
from typing import Annotated

import typer

from footfall.contract import DEFAULT_MAX_TOP_K
from footfall_cli.output import JsonOption, say, show
from footfall_kernels.implementations import ImplementationName


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A folder written by `footfall train`.")],
    repository: Annotated[Path, typer.Option(help="The model repository; made where it is not there.")],
    engine: Annotated[str, typer.Option(help="onnxruntime, tensorrt or torch.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16; onnxruntime takes fp32.")] = "fp32",
    max_top_k: Annotated[int, typer.Option(help="Longest list a request may ask for.")] = DEFAULT_MAX_TOP_K,
    backend: Annotated[
        str, typer.Option(help="python, or tensorrt: the server runs the plan itself, in NVIDIA's container.")
    ] = "python",
    device: Annotated[
        str, typer.Option(help="Where the torch engine is to run: cpu, cuda or cuda:N.")
    ] = "cpu",
    implementation: Annotated[
        ImplementationName | None,
        typer.Option(help="Of the torch engine's kernels; by default triton on cuda, reference on cpu."),
    ] = None,
    cache_mib: Annotated[
        int, typer.Option(help="What the torch engine keeps of returning users, in MiB; 0: nothing.")
    ] = 256,
    as_json: JsonOption = False,
) -> None:
    """Compile a checkpoint for a runtime, compare it with torch, and add it to a model repository.

    Example: footfall export checkpoint --repository model_repository --engine onnxruntime
    """
    from footfall_export.export import ExportOptions
    from footfall_export.export import export as export_version

    options = ExportOptions(engine, precision, max_top_k, backend, device, implementation, cache_mib)
    say(f"exporting {checkpoint} for {engine} in {precision}")
    result = export_version(checkpoint, repository, options, say)
    parity = result["parity"]
    compared = parity["reason"]
    if parity["measured"]:
        compared = (
            f"largest score difference {parity['differences']['item_score']:.2g}, top-20 agreement"
            f" {parity['top20_agreement']:.1%} over {parity['histories']} histories"
        )
    show(result, f"version {result['version']} in {result['folder']}: {compared}", as_json)
