"""Versions: what a repository holds, and what of it is live and loaded."""

from pathlib import Path
from typing import Any

from footfall.contract import COMPOSING_MODELS
from footfall.errors import InputError
from footfall_engines.repository import Repository
from footfall_engines.version import Version
from footfall_serving.repository_api import RepositoryApi
from footfall_serving.rollout import read_rollout
from footfall_serving.state import read_state


def list_versions(repository: Path) -> list[dict[str, Any]]:
    """One row a version, ascending. `loaded` is None where no server runs; a broken version has `error` alone.

    `promoted` lists when it became live, `rollback` marks where one goes, `rollout` is how one that is tried does.
    """
    if not repository.is_dir():
        raise InputError(f"{repository} is not a model repository: there is no such folder")
    home, ready = Repository(repository), _ready(repository)
    live, earlier = home.live_number(), home.earlier_numbers()
    promotions = home.promotions()
    rollout = read_rollout(repository)
    rows = []
    for number in home.numbers():
        row: dict[str, Any] = {"version": number, "live": number == live}
        row["loaded"] = None if ready is None else any((step, number) in ready for step in COMPOSING_MODELS)
        row["rollback"] = earlier[:1] == [number]
        row["rollout"] = rollout if rollout is not None and rollout["version"] == number else None
        row["promoted"] = [entry["time"] for entry in promotions if entry["version"] == number]
        try:
            version = home.version(number)
            if ready is not None:
                row["loaded"] = all((step, number) in ready for step in version.steps)
            rows.append(row | _facts(version))
        except InputError as error:
            rows.append(row | {"error": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            rows.append(row | {"error": f"its metrics hold no NDCG@10 of the validation: {error!r}"})
    return rows


def _facts(version: Version) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "engine": version.engine,
        "precision": version.precision,
        "items": manifest["num_items"],
        "actions": manifest["actions"],
        "created": manifest["created"],
        "ndcg@10": float(manifest["metrics"]["validation"]["ndcg@10"]),
    }


def _ready(repository: Path) -> set[tuple[str, int]] | None:
    """The running server's models and their versions that take requests."""
    state = read_state(repository)
    if state is None:
        return None
    with RepositoryApi(state) as api:
        return api.ready_versions()
