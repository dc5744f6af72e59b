"""The shape of the repository: which way imports point, what stays light, what may not be committed."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# Package -> the Footfall packages it may import (DESIGN section 2).
ARROWS = {
    "core/footfall": set(),
    "data/footfall_data": {"footfall"},
    "kernels/footfall_kernels": {"footfall"},
    "models/footfall_models": {"footfall", "footfall_kernels"},
    "training/footfall_training": {"footfall", "footfall_data", "footfall_kernels", "footfall_models"},
    "engines/footfall_engines": {"footfall", "footfall_kernels", "footfall_models"},
    "export/footfall_export": {
        "footfall",
        "footfall_data",
        "footfall_kernels",
        "footfall_models",
        "footfall_training",
        "footfall_engines",
    },
    "serving/footfall_serving": {"footfall", "footfall_engines"},
    "client/footfall_client": {"footfall"},
    "loadtest/footfall_loadtest": {"footfall", "footfall_client"},
    "cli/footfall_cli": {
        "footfall",
        "footfall_data",
        "footfall_kernels",
        "footfall_models",
        "footfall_training",
        "footfall_engines",
        "footfall_export",
        "footfall_serving",
        "footfall_client",
        "footfall_loadtest",
    },
}
HEAVY = {"torch", "polars", "pyarrow", "onnx", "onnxruntime", "tensorrt_rtx", "locust", "tensorboard"}


def tracked_files(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def imported_packages(source: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", ARROWS)
def test_imports_point_one_way(package: str) -> None:
    own = package.split("/")[1]
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources
    for source in sources:
        inside = {name for name in imported_packages(source) if name.startswith("footfall")}
        wrong = inside - ARROWS[package] - {own}
        assert not wrong, f"{source.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(
    "module",
    [
        "footfall.history",
        "footfall_client",
        "footfall_cli.main",
        "footfall_loadtest",
        "footfall_engines.engine",
    ],
)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize("runtime", ["onnxruntime_engine", "torch_engine", "tensorrt_engine"])
def test_a_servers_process_imports_neither_training_nor_what_reads_logs(runtime: str) -> None:
    served = ("footfall_serving.request", "footfall_engines.engine", f"footfall_engines.{runtime}")
    kept_out = {"polars", "footfall_data", "footfall_training", "footfall_export"}
    code = f"import sys, {', '.join(served)}; print(*sorted({kept_out!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_no_file_has_grown_past_300_lines() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in tracked_files("*.py")}
    long = {
        str(path.relative_to(ROOT)): length
        for path, length in lengths.items()
        if length > 300 and ROOT / "tests" not in path.parents
    }
    assert not long


def test_the_tests_and_files_that_the_docs_name_are_there() -> None:
    for page in tracked_files("*.md"):
        text = page.read_text()
        for line in text.splitlines():
            source = Path()
            for path, function in re.findall(r"(tests/\w+\.py)?(?:::|, )?\b(test_\w+\b(?!\.py))?", line):
                source = ROOT / path if path else source
                if path:
                    assert source.is_file(), f"{page.name} names {path}"
                if function and source != Path():
                    there = f"def {function}(" in source.read_text()
                    assert there, f"{page.name} names {source.name}::{function}"
        for link in re.findall(r"\]\(([^)#]+)", text):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_nothing_tracked_names_a_machine_path_or_edits_the_import_path() -> None:
    forbidden = re.compile(r"sys\.path\.(?:append|insert)|(?:^|[\s\"'=(])/(?:root|work|home)/", re.MULTILINE)
    for path in tracked_files("*.py", "*.md", "*.pbtxt", "*.toml", "Makefile", ".ci/*"):
        if path == Path(__file__):
            continue
        found = forbidden.search(path.read_text())
        assert not found, f"{path.relative_to(ROOT)}: {found.group(0)!r}" if found else ""


def test_no_merge_was_left_half_done() -> None:
    marks = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
    for path in tracked_files("*.py", "*.md", "*.toml", "*.cfg", "*.yml", "Makefile"):
        assert not marks.search(path.read_text()), path.relative_to(ROOT)
