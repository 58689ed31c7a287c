"""The one error that people meet: a sentence with what went wrong, which file or key, and what to do."""


class BgadError(Exception):
    """A mistake that the user can put right. The command line prints its text and exits with 1, without a traceback."""
