"""`footfall versions`: what a model repository holds."""

from pathlib import Path
from typing import Annotated

import typer

from footfall_cli.output import JsonOption


def versions(
    repository: Annotated[Path, typer.Option(help="The model repository.")],
    as_json: JsonOption = False,
) -> None:
    """List the versions of a model repository: which one is live, which are loaded, where a rollback goes.

    Example: footfall versions --repository model_repository
    """
    import json

    from rich.console import Console
    from rich.table import Column, Table

    from footfall_serving.versions import list_versions

    rows = list_versions(repository)
    if as_json:
        print(json.dumps(rows))
        return
    heads = ("version", "state", "engine", "items", "NDCG@10", "created", "promoted")
    table = Table(*(Column(head, overflow="fold") for head in heads), title="times are UTC")
    for row in rows:
        states = {
            "live": row["live"],
            "loaded": row["loaded"] and not row["live"],
            "rollback": row["rollback"],
        }
        state = ", ".join(name for name, holds in states.items() if holds)
        if row["rollout"]:
            state += "\n" + "\n".join(f"{name} {value}" for name, value in row["rollout"].items())
        if "error" in row:
            table.add_row(str(row["version"]), state, row["error"])
            continue
        facts = (
            f"{row['engine']} {row['precision']}",
            f"{row['items']:,}",
            f"{row['ndcg@10']:.4f}",
            _minute(row["created"]),
            "\n".join(map(_minute, row["promoted"])),
        )
        table.add_row(str(row["version"]), state, *facts)
    Console().print(table)


def _minute(moment: str) -> str:
    """Of an ISO time in UTC, as a manifest has it."""
    return moment[:16].replace("T", " ")
