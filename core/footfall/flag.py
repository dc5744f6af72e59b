"""Flag: what the command line says of an option, which is declared once, as the field of a dataclass."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """In the annotation of a field that a verb of `footfall` takes; a field without one is for programs alone.

    name: with its dashes, where it is not the field's; metavar: what stands for its value.
    """

    help: str
    name: str | None = None
    metavar: str | None = None
