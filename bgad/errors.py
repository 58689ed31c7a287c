"""Errors for users: one sentence that says what went wrong, which file or key, and what to do.

The command line prints the sentence and exits with 1, without a traceback. Any other exception is a bug.
"""


class BgadError(Exception):
    """Something that the user can fix; raise the kind below that fits."""


class ConfigError(BgadError):
    """A key, an option or a name: in config/, in a recipe or suite, or on the command line."""


class DataError(BgadError):
    """A data set: its folders, images, masks or archives, or what can be drawn from them."""


class FileError(BgadError):
    """A file of ours, or weights: missing, damaged, of the wrong kind, or in a place that cannot be written."""


class TrainingError(BgadError):
    """A fit or a score that failed: training diverged, or the result cannot be used."""
