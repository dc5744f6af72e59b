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
