"""Finished folders: written aside, flushed to disk, renamed, and sealed by a manifest.

Data sets, checkpoints and versions are all such folders. A folder under its own name is whole; a killed or
failed writer leaves at most a `.partial-*` sibling that the next writer of the same name removes, and, killed
while it replaced a folder, that one as a `.replaced-*` sibling that the next writer puts back.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from footfall.errors import InputError

MANIFEST = "manifest.json"
FORMAT = 1


@contextmanager
def written_aside(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success flush it and rename it to `target`.

    On an exception nothing is left. Raises InputError where `target` exists and `overwrite` is False, and where
    the disk is full or may not be written.
    """
    make_folder(target.parent)
    partial = _aside(target, "partial", os.getpid())
    try:
        with writing(target):
            restore_replaced(target)
            _refuse_existing(target, overwrite)
            remove_partials(target)
            partial.mkdir()
            yield partial
            flush(partial)
            _refuse_existing(target, overwrite)  # another writer may have been faster
            replace_folder(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        restore_replaced(target)
        raise


def _refuse_existing(target: Path, overwrite: bool) -> None:
    _refuse_file(target)
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already; name another folder or pass --overwrite")


def _refuse_file(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file where a folder is needed")


def make_folder(folder: Path) -> None:
    """Make `folder` and its parents where they are not there. Raises InputError where that cannot be."""
    with writing(folder):
        for above in (folder, *folder.parents):
            _refuse_file(above)
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def writing(target: Path, left: str = "nothing is left of it") -> Iterator[None]:
    """One sentence for what the system says when `target` cannot be written; `left` says what there is now."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{target} cannot be written, {left}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    match error.args:
        case ([(_, _, str(first)), *_],):  # shutil.copytree's list of what it could not copy
            return re.sub(r"^\[Errno \d+\] ([^:]*).*", r"\1", first)
        case (str(text),) if text.endswith(" written"):  # numpy's short write: "9 requested and 4 written"
            return f"the disk is full or a limit on file sizes is reached ({text})"
    return error.strerror or str(error)


def replace_folder(source: Path, target: Path) -> None:
    """Rename `source` to `target`, moving an old `target` out of the way first."""
    replaced = _aside(target, "replaced", os.getpid())
    if target.exists():
        target.rename(replaced)
    source.rename(target)
    _flush_entry(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def restore_replaced(target: Path) -> None:
    """Put back a folder whose writer ended, or failed here, with it out of the way and no other in its place."""
    for replaced in _left_aside(target, "replaced"):
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            replaced.rename(target)


def remove_partials(target: Path) -> None:
    """Remove what killed writers of `target` left; a living writer's folder stays."""
    for partial in _left_aside(target, "partial"):
        shutil.rmtree(partial, ignore_errors=True)


def _aside(target: Path, kind: str, writer: int | str) -> Path:
    return target.parent / f".{kind}-{target.name}-{writer}"


def _left_aside(target: Path, kind: str) -> list[Path]:
    """Folders of this kind beside `target` whose writer is dead or this process, by name."""
    prefix = _aside(target, kind, "").name
    found = [path for path in sorted(target.parent.iterdir()) if path.name.startswith(prefix)]
    return [path for path in found if _is_over(path.name.removeprefix(prefix))]


def _is_over(writer: str) -> bool:
    """Not where `writer` is no process id: then the folder belongs to a target of a longer name."""
    return writer.isdigit() and (int(writer) == os.getpid() or not psutil.pid_exists(int(writer)))


def flush(folder: Path) -> None:
    """fsync every file and folder below `folder`."""
    for path in folder.rglob("*"):
        _flush_entry(path)
    _flush_entry(folder)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_manifest(folder: Path, kind: str, fields: Mapping[str, Any]) -> None:
    """Seal `folder`: record its kind, `fields`, and size and SHA-256 of every file in it."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {"format": FORMAT, "kind": kind, **fields, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def read_manifest(folder: Path, kind: str, *, verify: bool = False) -> dict[str, Any]:
    """The manifest of a finished folder of this `kind`.

    Checks that every file is there at its size, with `verify` its SHA-256 too. Raises InputError otherwise.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} is not a finished {kind}: it has no {MANIFEST}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if manifest.get("kind") != kind:
        raise InputError(f"{folder} holds a {manifest.get('kind')}, expected a {kind}")
    if manifest.get("format") != FORMAT:
        raise InputError(f"{folder} has format {manifest.get('format')}, this Footfall reads {FORMAT}")
    for name, facts in manifest["files"].items():
        _check_file(folder / name, facts, verify)
    return manifest


def _check_file(path: Path, facts: Mapping[str, Any], verify: bool) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing though its manifest lists it: the folder is incomplete")
    if path.stat().st_size != facts["bytes"]:
        raise InputError(f"{path} has {path.stat().st_size} bytes, its manifest says {facts['bytes']}")
    if verify and sha256(path) != facts["sha256"]:
        raise InputError(f"{path} differs from what was written: its SHA-256 is not the manifest's")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
