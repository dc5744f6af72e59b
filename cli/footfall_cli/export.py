"""`footfall export`: a checkpoint becomes the next version of a model repository."""

from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.options import Flags
from footfall_cli.output import JsonOption, say, show
from footfall_export.options import ExportOptions


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A folder written by `footfall train`.")],
    repository: Annotated[Path, typer.Option(help="The model repository; made where it is not there.")],
    *,
    options: Annotated[Flags, ExportOptions],
    as_json: JsonOption = False,
) -> None:
    """Compile a checkpoint for a runtime, compare it with torch, and add it to a model repository.

    Example: footfall export checkpoint --repository model_repository --engine onnxruntime
    """
    from footfall_export.export import export as export_version

    wanted = ExportOptions(**options)
    say(f"exporting {checkpoint} for {wanted.engine} in {wanted.precision}")
    result = export_version(checkpoint, repository, wanted, say)
    parity = result["parity"]
    compared = parity["reason"]
    if parity["measured"]:
        compared = (
            f"largest score difference {parity['differences']['item_score']:.2g}, top-20 agreement"
            f" {parity['top20_agreement']:.1%} over {parity['histories']} histories"
        )
    show(result, f"version {result['version']} in {result['folder']}: {compared}", as_json)
