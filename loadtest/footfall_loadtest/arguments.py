"""Arguments: the flags of LoadTestOptions on the command line and the web page of locust."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from footfall.errors import InputError
from footfall.flag import Flag
from footfall_loadtest.options import LoadTestOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every value as text, as locust's web page and its messages to workers have it; "" where left out."""
    for name, flag, default, _ in _flags():
        text = "" if default in (None, MISSING) else str(default)
        parser.add_argument(flag, dest=name, default=text, required=default is MISSING, help=_help(name))


def options_of(namespace: argparse.Namespace) -> LoadTestOptions:
    """What was given. Raises InputError."""
    given: dict[str, Any] = {}
    for name, flag, default, read in _flags():
        text = getattr(namespace, name)
        try:
            given[name] = None if default is None and not text else read(text)
        except ValueError as error:
            raise InputError(f"{flag} {text} is not a number") from error
    return LoadTestOptions(**given)


def as_arguments(options: LoadTestOptions) -> list[str]:
    """The command line that gives them."""
    arguments = []
    for name, flag, default, _ in _flags():
        value = getattr(options, name)
        if value != default:
            arguments.append(f"{flag}={'' if value is None else value}")
    return arguments


def _flags() -> Iterator[tuple[str, str, Any, Callable[[str], Any]]]:
    """Of every field its name, its flag, its default and what reads it from text."""
    hints = get_type_hints(LoadTestOptions)
    for field in fields(LoadTestOptions):
        kind = hints[field.name]
        if get_origin(kind) in (Union, UnionType):  # a Literal or None is the former
            kind = get_args(kind)[0]
        read = str if get_origin(kind) is Literal else kind
        yield field.name, _flag(field.name).name or f"--{field.name.replace('_', '-')}", field.default, read


def _help(name: str) -> str:
    return _flag(name).help


def _flag(name: str) -> Flag:
    noted: Flag = get_type_hints(LoadTestOptions, include_extras=True)[name].__metadata__[0]
    return noted
