"""An error that several rooms raise and every command line shows."""


class FaceSetError(ValueError):
    """A face set that cannot be used. The message is one line: what, where, what to do."""
