"""What the command line tells a user in one line."""

__all__ = ["Interrupted", "RunError", "UserError"]


class UserError(Exception):
    """The user's words or surroundings are wrong: nothing was changed, and the command exits with 2."""


class RunError(Exception):
    """The command was understood, but what it did failed: it exits with 1."""


class Interrupted(BaseException):
    """The run was stopped by the user; everything that was trained is in the store.

    Like KeyboardInterrupt it is no Exception, so that nothing on its way up takes it for an error and tidies up at
    length.
    """
