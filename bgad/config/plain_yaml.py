"""Reading YAML that is data alone: a file from elsewhere makes no objects, no program and no billion of values."""

from pathlib import Path
from typing import Any

import yaml

from bgad.errors import BgadError
from bgad.io import content_of

MOST_VALUES = 100_000  # of a file: a suite that names every category and split has some hundreds


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; BgadError if it is missing or no plain YAML: with tags, merge keys or a key twice, or with
    aliases that make more of it than MOST_VALUES."""
    try:
        values = yaml.load(content_of(path).decode(), _PlainLoader)
    except OSError as error:
        raise BgadError(f"{path}: cannot be read ({error.strerror}); check the name and the path.") from error
    except UnicodeDecodeError as error:
        raise BgadError(f"{path}: not UTF-8 text; save it as UTF-8.") from error
    except Exception as error:  # PyYAML's own, and of many kinds what its constructors of dates, numbers and tags raise
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        problem = f" ({error.problem})" if isinstance(error, _WrongKey) else ""
        raise BgadError(f"{path}: not valid YAML{line}{problem}; put the file right.") from error
    if isinstance(values, dict) and "__use_yte__" in values:
        raise BgadError(f"{path}: holds a template (__use_yte__), which is a program; write its values out.")
    if not _is_bounded(values):
        raise BgadError(f"{path}: its aliases make it more than {MOST_VALUES} values; write them out.")
    return values


class _WrongKey(yaml.MarkedYAMLError):
    pass


class _PlainLoader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == "tag:yaml.org,2002:merge":  # merged over and over, a few lines fill the memory
                raise _WrongKey(problem="merge keys are not used here", problem_mark=key.start_mark)
            # PyYAML would take the last of two without a word.
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise _WrongKey(problem=f"the key {key.value} is there twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)))
        return super().construct_mapping(node, deep)


def _is_bounded(values: Any) -> bool:
    """Whether ``values``, each counted as often as it is met, are no more than MOST_VALUES: an alias can even hold itself."""
    to_do, count = [values], 0
    while to_do and count <= MOST_VALUES:
        value = to_do.pop()
        count += 1
        if isinstance(value, dict):
            to_do += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            to_do += value
    return count <= MOST_VALUES
