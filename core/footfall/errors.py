"""What went wrong, in one sentence a user can act on."""

from collections.abc import Iterable


class FootfallError(Exception):
    """Base of every error a user can cause. Its text is one sentence with the offending value.

    FootfallError
      +-- InputError       a log, file, folder, option or request that is not what it should be
      +-- NotReadyError    a server or model that is not there, or not ready in time
    """


class InputError(FootfallError):
    """The input is malformed; the text says where, what was found and what was expected."""


class NotReadyError(FootfallError):
    """Something that should be running is not."""


def check_choice(what: str, name: str, known: Iterable[str]) -> None:
    """Raises InputError, listing the known ones, where `name` is none of them."""
    known = tuple(known)
    if name not in known:
        raise InputError(f"unknown {what} {name!r}; there are {', '.join(known)}")


def shortened(text: str, most: int = 80) -> str:
    """`text` for a sentence: cut after `most` characters; of text that is not printable 80, escaped, are enough."""
    if not text.isprintable():
        most = min(most, 80)
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: most + 1])
    return text if len(text) <= most else f"{text[:most]}..."


SEEDS = 2**63


def check_seed(seed: int) -> None:
    """numpy takes no negative seeds, torch none past 64 bits."""
    if not 0 <= seed < SEEDS:
        raise InputError(f"seed is {seed}, it must be in 0..{SEEDS - 1}")
