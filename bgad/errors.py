"""The errors that people meet: one sentence with what went wrong, which file or key, and what to do.

The command line prints the sentence and exits with 1, without a traceback. Anything else that is raised is a bug.
"""


class BgadError(Exception):
    """A mistake that the user can put right; raise the kind below that fits."""


class ConfigError(BgadError):
    """A key, an option or a name: in config/, in a recipe or suite, or on the command line."""


class DataError(BgadError):
    """A data set: its folders, images, masks or archives, or what can be drawn from them."""


class FileError(BgadError):
    """A file of ours, or weights: missing, damaged, of another make, or in a place that cannot be written."""


class TrainingError(BgadError):
    """A method while it is fitted or scores: a training that diverged, a result that cannot be used."""
