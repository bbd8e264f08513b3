"""The errors that a command line reports in one line."""


class UserError(Exception):
    """Base class of errors that the user can solve. The message is one line: what, where, what to do."""


class FaceSetError(UserError, ValueError):
    """A face set that cannot be used."""
