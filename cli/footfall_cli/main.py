"""The `footfall` command: registers the verbs and turns errors into one sentence."""

import io
import sys
from collections.abc import Sequence

import typer

from footfall import __version__
from footfall.errors import FootfallError, InputError
from footfall_cli.demo import demo
from footfall_cli.evaluate import evaluate
from footfall_cli.export import export
from footfall_cli.loadtest import loadtest
from footfall_cli.options import with_flags
from footfall_cli.prepare import prepare
from footfall_cli.publish import publish
from footfall_cli.recommend import recommend
from footfall_cli.rollback import rollback
from footfall_cli.serve import serve
from footfall_cli.simulate import simulate
from footfall_cli.train import train
from footfall_cli.tune import tune
from footfall_cli.versions import versions

app = typer.Typer(
    name="footfall",
    help="From a shop's event log to served recommendations.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def footfall(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print Footfall's version and stop."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


# A verb's file imports what it needs inside its function.
for verb in (
    *(simulate, prepare, train, evaluate, export, serve),
    *(publish, rollback, versions, recommend, loadtest, tune, demo),
):
    app.command()(with_flags(verb))


def main() -> None:
    """Run the command; a user's error, or the system's, prints one sentence and exits 1, a broken option exits 2."""
    for stream in (sys.stdout, sys.stderr):  # an item's title may be beyond the terminal's encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_encoding(sys.argv[1:])
        app()
    except FootfallError as error:
        print(f"footfall: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # that no verb put into words
        print(f"footfall: {_sentence(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _check_encoding(arguments: Sequence[str]) -> None:
    """Not every library takes a name that the system's encoding does not read."""
    for argument in arguments:
        if any("\ud800" <= char <= "\udfff" for char in argument):
            raise InputError(
                f"the argument {argument!a} is not in the system's encoding, {sys.getfilesystemencoding()};"
                " set LANG=C.UTF-8, or give the file another name"
            )


def _sentence(error: OSError) -> str:
    """The path and the system's reason."""
    paths = " to ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    reason = error.strerror or str(error) or type(error).__name__
    return f"{paths}: {reason}" if paths else reason
