"""The one exception for what the user can mend, and the one place that prints it."""

import sys
from typing import Callable


class UserError(Exception):
    """Something the user can mend: the message is one line that names the file and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # other people's messages, quoted in ours, have several


class InUse(UserError):
    """Another process holds what is asked for; it may let go of it."""


class TooFewImages(UserError):
    """The data do not have the images that a specification asks for."""


def run_command(main: Callable[[], int]) -> None:
    """Run a command line's `main` and exit with its status.

    A `UserError` becomes one line on stderr and exit code 2; Ctrl-C becomes exit code 130. Everything else is a
    bug and keeps its traceback.
    """
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept; the same command goes on where it was", file=sys.stderr)
        status = 130
    sys.exit(status)
