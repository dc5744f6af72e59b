"""Options: a verb takes the flags of whole dataclasses, which declare them (see footfall.flag)."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

import typer

from footfall.flag import Flag


class Flags(dict[str, Any]):
    """Of a verb's parameter that is Annotated[Flags, a dataclass]: the value of each of its fields with a Flag.

    given: the fields whose values the command line says.
    """

    given: frozenset[str] = frozenset()

    def over(self, defaults: dict[str, Any]) -> dict[str, Any]:
        """These, with `defaults` for what is not given."""
        return {
            name: value if name in self.given else defaults.get(name, value) for name, value in self.items()
        }


def with_flags(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb` as typer takes it: in place of each parameter of Flags stand the options of its dataclass."""
    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
    ]
    groups: dict[str, list[str]] = {}
    for parameter in inspect.signature(verb).parameters.values():
        annotated = get_args(parameter.annotation)
        if annotated and annotated[0] is Flags:
            options = list(_options(annotated[1]))
            groups[parameter.name] = [option.name for option in options]
            parameters += options
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(verb)
    def command(context: typer.Context, **values: Any) -> None:
        given = {name for name in values if _is_given(context, name)}
        flags = {group: Flags((name, values.pop(name)) for name in names) for group, names in groups.items()}
        for group in flags.values():
            group.given = frozenset(given & group.keys())
        verb(**values, **flags)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _options(kind: type) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint, *notes = get_args(hints[field.name]) or [hints[field.name]]
        for flag in notes:
            if isinstance(flag, Flag):
                # A yes or no is said by the flag alone: without a name typer would offer --no-... too.
                name = flag.name or f"--{field.name.replace('_', '-')}"
                option = typer.Option(name, help=flag.help, metavar=flag.metavar)
                yield inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if field.default is MISSING else field.default,
                    annotation=Annotated[hint, option],
                )
