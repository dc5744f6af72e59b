"""Paths as people have them: spaces, quotes, newlines, other scripts, no locale, links, relative and long ones."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import copied, infer, make_unloadable

from footfall_engines.repository import Repository
from footfall_serving.publish import publish
from footfall_serving.server import running_server
from footfall_serving.state import read_state

FOOTFALL = str(Path(sys.executable).with_name("footfall"))
AWKWARD = "a b'q\"\n$(x) ;&[1]*? \u00fcn\u00ef"
NO_LOCALE = {name: value for name, value in os.environ.items() if not name.startswith(("LANG", "LC_"))}


def footfall(*words: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [FOOTFALL, *words],
        cwd=folder,
        env=NO_LOCALE | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@contextmanager
def serving(repository: str, folder: Path) -> Iterator[None]:
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    command = [FOOTFALL, "serve", "--repository", repository, *ports, "--json"]
    with subprocess.Popen(command, cwd=folder, env=NO_LOCALE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["pid"]
            yield
        finally:
            process.terminate()


def test_a_repository_may_have_any_name_and_there_need_be_no_locale(
    three_versions: Path, tmp_path: Path, ids: list[str]
) -> None:
    repository = copied(three_versions, tmp_path / AWKWARD / "repository")
    name = f"{AWKWARD}/repository"
    assert footfall("publish", f"{name}/ranker/1", folder=tmp_path).returncode == 0
    make_unloadable(Repository(repository).version_folder(3))
    with serving(name, tmp_path):
        state = read_state(repository)
        assert state is not None
        assert infer(state, ("item_id", "BYTES", ids[:3]))[0] == 200
        done = footfall("publish", f"{name}/ranker/2", "--json", folder=tmp_path)
        assert json.loads(done.stdout) == {"live": 2, "previous": 1, "serving": True}
        refused = footfall("publish", f"{name}/ranker/3", folder=tmp_path)
        assert refused.returncode == 1
        assert "Traceback" not in refused.stderr
        assert "/proc/self/fd" not in refused.stderr
        rows = json.loads(footfall("versions", "--repository", name, "--json", folder=tmp_path).stdout)
        assert [row["loaded"] for row in rows] == [True, True, False]
        assert footfall("rollback", "--repository", name, folder=tmp_path).returncode == 0


def test_a_repository_may_be_a_link_and_its_path_as_long_as_the_system_takes(
    tiny_repository: Path, tmp_path: Path, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    long = Path(*["x" * 200] * 17)
    long.mkdir(parents=True)
    shutil.copytree(tiny_repository, long / "repository", ignore=shutil.ignore_patterns(".*"))
    Path("link").symlink_to(long / "repository")
    with running_server(Path("link")) as state:
        assert infer(state, ("item_id", "BYTES", ids[:3]))[0] == 200
        assert publish(Path("link") / "ranker" / "1").serving


def test_a_name_that_is_not_in_the_systems_encoding_is_refused_in_a_sentence(tmp_path: Path) -> None:
    word = os.fsdecode(b"b\xff")
    for verb in (
        ["prepare", word, "--out", "out"],
        ["export", word, "--repository", word],
        ["versions", word],
    ):
        run = footfall(*verb, folder=tmp_path)
        assert run.returncode == 1
        assert run.stderr.startswith(
            r"footfall: the argument 'b\udcff' is not in the system's encoding, utf-8"
        )


def test_what_the_terminal_cannot_show_is_escaped(tiny_repository: Path, tmp_path: Path) -> None:
    repository = copied(tiny_repository, tmp_path / "\u00fcn\u00ef")
    run = footfall("versions", "--repository", str(repository), folder=tmp_path, PYTHONIOENCODING="ascii")
    assert run.returncode == 0, run.stderr
    assert run.stdout.isascii()
