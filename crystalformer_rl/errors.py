"""The one error that a user is meant to read."""

from __future__ import annotations


class InputError(Exception):
    """Something that the user gave is wrong, and the user can mend it.

    The message is one sentence that names what is wrong, where (file, row or
    field), and what to do. The command line prints it without a traceback and
    exits with status 2.
    """
