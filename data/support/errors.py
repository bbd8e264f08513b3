"""The error that several packages raise and every command line reports."""


class FaceSetError(ValueError):
    """A face set that cannot be used. The message is one line: what, where, what to do."""
