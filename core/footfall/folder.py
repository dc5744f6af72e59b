"""Finished folders: written aside, flushed to disk, renamed, and sealed by a manifest.

Data sets, checkpoints and versions are all such folders. A folder under its own name is whole at every instant: one
that replaces another changes places with it in one step. A killed or failed writer leaves at most a `.partial-*`
folder beside its target, which the next writer there removes.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TextIO

from footfall.errors import InputError

MANIFEST = "manifest.json"
FORMATS = {"dataset": 1, "checkpoint": 2, "version": 1}
"""Of each kind; goes up when older folders would be misread: checkpoints of 1 do not say what they learnt from."""
PARTIAL = re.compile(r"\.partial-[0-9a-f]{8}")
LOCK = "lock"
CONTENT = "content"
AT_FDCWD = -100
RENAME_EXCHANGE = 2


@contextmanager
def written_aside(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success flush it and rename it to `target`.

    On an exception nothing is left. Raises InputError where `target` exists and `overwrite` is False, where the
    disk is full or may not be written, and where it has to exchange two folders and cannot.
    """
    place = target.resolve()  # of a link, what it points to is replaced
    with writing(target), aside(place.parent) as folder:
        _refuse_existing(target, overwrite)
        if place.exists():
            _try_exchange(folder.parent, target)
        yield folder
        _refuse_existing(target, overwrite)  # another writer may have been faster
        if not placed(folder, place):
            _refuse_existing(target, overwrite)
            exchange(folder, place)
            _flush_entry(place.parent)


@contextmanager
def aside(parent: Path) -> Iterator[Path]:
    """Yield an empty folder in `parent`, for `placed` to move to its name; what is not moved is removed.

    It lies in a `.partial-*` folder whose lock its writer holds: that tells a living writer from a dead one across
    the containers that share a disk, and across machines on NFS, whose server keeps the lock; an NFS without locks
    is refused. A process id would tell neither.
    """
    make_folder(parent)
    remove_partials(parent)
    workspace, lock = _locked_workspace(parent)
    with lock:
        try:
            (workspace / CONTENT).mkdir()
            yield workspace / CONTENT
        finally:
            shutil.rmtree(workspace, ignore_errors=True)


def placed(folder: Path, target: Path) -> bool:
    """Flush `folder` and rename it to `target`; False where a folder that is not empty lies there already."""
    flush(folder)
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    _flush_entry(target.parent)
    return True


def exchange(one: Path, other: Path) -> None:
    """Have two folders change places in one step, so that who reads either name always finds one.

    Raises OSError where the file system cannot: NFS, for one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))


def _try_exchange(workspace: Path, target: Path) -> None:
    """Before hours of work end in a folder that cannot take its place."""
    probes = [workspace / "one", workspace / "other"]
    for probe in probes:
        probe.mkdir()
    try:
        exchange(*probes)
    except OSError as error:
        raise InputError(
            f"{target} cannot be overwritten: its file system cannot exchange two folders in one step"
            f" ({error.strerror}); remove it first, or name another folder"
        ) from error


def _locked_workspace(parent: Path) -> tuple[Path, TextIO]:
    """A new `.partial-*` folder and the file whose lock is held while that is open."""
    while True:
        workspace = parent / f".partial-{secrets.token_hex(4)}"
        workspace.mkdir()
        try:
            lock = _open_lock(workspace)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (workspace / LOCK).exists():
                return workspace, lock
            lock.close()
        except FileNotFoundError:
            continue  # a cleaner came before the lock was held
        except BaseException:
            shutil.rmtree(workspace, ignore_errors=True)
            raise


def remove_partials(parent: Path) -> None:
    """Remove what killed writers left in `parent`; the folder of a living one is locked, and stays."""
    for path in parent.iterdir():
        if not PARTIAL.fullmatch(path.name):
            continue
        # Locked by its writer, being removed by another cleaner, or another user's.
        with (
            contextlib.suppress(BlockingIOError, FileNotFoundError, PermissionError),
            _open_lock(path) as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


def _open_lock(workspace: Path) -> TextIO:
    """Opened for writing, as NFS asks of a lock that is held alone."""
    return (workspace / LOCK).open("a")


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


def replacing(path: Path) -> AbstractContextManager[None]:
    """The same for a file that is replaced in one step."""
    return writing(path, "it is as it was")


def _reason(error: OSError) -> str:
    match error.args:
        case ([(_, _, str(first)), *_],):  # shutil.copytree's list of what it could not copy
            return re.sub(r"^\[Errno \d+\] ([^:]*).*", r"\1", first)
        case (str(text),) if text.endswith(" written"):  # numpy's short write: "9 requested and 4 written"
            return f"the disk is full or a limit on file sizes is reached ({text})"
    return error.strerror or str(error)


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
    manifest = {"format": FORMATS[kind], "kind": kind, **fields, "files": files}
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
    if manifest.get("format") != FORMATS[kind]:
        raise InputError(
            f"{folder} is a {kind} of format {manifest.get('format')}, this Footfall reads {FORMATS[kind]}:"
            " make it again"
        )
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
