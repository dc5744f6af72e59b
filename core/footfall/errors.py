"""What went wrong, in one sentence a user can act on."""


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


def shortened(text: str, most: int = 80) -> str:
    """`text` for a sentence: cut after `most` characters; of text that is not printable 80, escaped, are enough."""
    if not text.isprintable():
        most = min(most, 80)
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[: most + 1])
    return text if len(text) <= most else f"{text[:most]}..."
