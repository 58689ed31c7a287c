"""YAML as plain data: a file from elsewhere cannot create objects, run code or grow to a billion values.

All YAML is read here.
"""

from pathlib import Path
from typing import Any

import yaml

from bgad.errors import ConfigError
from bgad.io import content_of

MOST_VALUES = 100_000  # in a file; a suite that names every category and split has some hundreds


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; ConfigError if it is missing, invalid, has tags, merge keys or a key twice, or if its aliases
    make it larger than MOST_VALUES."""
    try:
        values = yaml.load(content_of(path).decode(), _PlainLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the name and the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; save it as UTF-8.") from error
    except Exception as error:  # PyYAML's own, and many kinds from its constructors of dates, numbers and tags
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        problem = f" ({error.problem})" if isinstance(error, _WrongKey) else ""
        raise ConfigError(f"{path}: not valid YAML{line}{problem}; correct the file.") from error
    if isinstance(values, dict) and "__use_yte__" in values:
        raise ConfigError(f"{path}: is a template (__use_yte__), which would run code; write its values out.")
    if not _is_bounded(values):
        raise ConfigError(f"{path}: its aliases make it more than {MOST_VALUES} values; write them out.")
    return values


class _WrongKey(yaml.MarkedYAMLError):
    pass


class _PlainLoader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag == "tag:yaml.org,2002:merge":  # nested merges of a few lines can fill the memory
                raise _WrongKey(problem="merge keys are not allowed", problem_mark=key.start_mark)
            # PyYAML would silently take the last of two.
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise _WrongKey(problem=f"the key {key.value} occurs twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value if isinstance(key, yaml.ScalarNode) else id(key)))
        return super().construct_mapping(node, deep)


def _is_bounded(values: Any) -> bool:
    """Whether ``values``, with aliases counted each time, are at most MOST_VALUES: an alias can even contain itself."""
    to_do, count = [values], 0
    while to_do and count <= MOST_VALUES:
        value = to_do.pop()
        count += 1
        if isinstance(value, dict):
            to_do += [*value, *value.values()]
        elif isinstance(value, list | tuple | set):
            to_do += value
    return count <= MOST_VALUES
