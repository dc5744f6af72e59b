"""Options: the fields of a dataclass are the flags of a verb, declared nowhere else."""

import inspect
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from footfall.flag import Flag
from footfall_cli import evaluate, export, loadtest, prepare, serve, simulate, train
from footfall_cli.options import Flags, with_flags
from footfall_data.options import PrepareOptions
from footfall_data.shop.options import SimulateOptions
from footfall_export.options import ExportOptions
from footfall_loadtest.gate import Gate
from footfall_loadtest.options import LoadTestOptions
from footfall_models.config import ModelConfig
from footfall_serving.options import ServeOptions
from footfall_training.evaluation.options import EvaluateOptions
from footfall_training.options import TrainOptions


@dataclass(frozen=True)
class Recipe:
    inner: str = "for programs"
    num_eggs: Annotated[int, Flag("How many.", "--eggs")] = 2
    oven: Annotated[Literal["gas", "electric"], Flag("Which.")] = "gas"
    oven_light: Annotated[bool, Flag("On.")] = False
    tin: Annotated[Path | None, Flag("Round.", metavar="TIN")] = None


def run(*arguments: str) -> tuple[Any, str]:
    """What the verb was given, and what was printed."""
    given: list[Any] = []

    def bake(name: str, *, recipe: Annotated[Flags, Recipe], hot: bool = False) -> None:
        """Bakes."""
        given.append((name, Recipe(**recipe), hot))

    app = typer.Typer()
    app.command()(with_flags(bake))
    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})
    return (given[0] if given else None), result.output


def test_what_is_left_out_is_the_dataclasss_default() -> None:
    assert run("cake")[0] == ("cake", Recipe(), False)


def test_a_flag_reaches_its_field_and_the_verbs_own_arguments_theirs() -> None:
    given, _ = run("cake", "--eggs", "3", "--oven", "electric", "--oven-light", "--tin", "a", "--hot")
    assert given == ("cake", Recipe(num_eggs=3, oven="electric", oven_light=True, tin=Path("a")), True)


@pytest.mark.parametrize(
    "wrong",
    [("--oven", "coal"), ("--num-eggs", "3"), ("--no-oven-light",), ("--inner", "x"), ("--recipe", "x")],
)
def test_what_the_dataclass_does_not_declare_is_refused(wrong: tuple[str, ...]) -> None:
    given, said = run("cake", *wrong)
    assert given is None
    assert wrong[0] in said


def test_what_the_command_line_gives_is_told_from_defaults_and_wins_over_others() -> None:
    found: list[dict[str, Any]] = []

    def bake(*, recipe: Annotated[Flags, Recipe]) -> None:
        found.append(recipe.over({"num_eggs": 5, "oven": "electric", "unknown": 1}))

    app = typer.Typer()
    app.command()(with_flags(bake))
    CliRunner().invoke(app, ["--eggs", "2"])  # the default's value, and yet given
    assert found == [{"num_eggs": 2, "oven": "electric", "oven_light": False, "tin": None}]


def test_the_help_is_the_dataclasss() -> None:
    _, said = run("--help")
    for words in ("Bakes.", "--eggs", "How many.", "[default: 2]", "gas|electric", "TIN"):
        assert words in said
    assert "inner" not in said


@pytest.mark.parametrize(
    ("verb", "kinds"),
    [
        (simulate.simulate, [SimulateOptions]),
        (prepare.prepare, [PrepareOptions]),
        (train.train, [ModelConfig, TrainOptions]),
        (evaluate.evaluate, [EvaluateOptions]),
        (export.export, [ExportOptions]),
        (serve.serve, [ServeOptions]),
        (loadtest.loadtest, [LoadTestOptions, Gate]),
    ],
)
def test_a_verb_takes_every_flag_of_its_options(verb: Any, kinds: list[Any]) -> None:
    taken = inspect.signature(with_flags(verb)).parameters
    for kind in kinds:
        flagged = [field for field in fields(kind) if "Flag(" in str(field.type)]
        assert flagged
        for field in flagged:
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            assert taken[field.name].default == default, field.name
