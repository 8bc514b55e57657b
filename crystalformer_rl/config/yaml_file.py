"""YAML and JSON files of settings, in which every key stands once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from crystalformer_rl.errors import InputError


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; an empty file is an empty mapping."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path of the configuration file.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except _TwiceError as error:
        raise InputError(f"{path}, line {error.line}: '{error.key}' is set twice; keep one.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line} is not valid YAML; check indentation, colons and quotes there.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings; write lines such as `seed: 0`.")
    return values


class _TwiceError(Exception):
    """A key that a mapping already has; YAML itself would let the last one win."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.key, self.line = key, line


class _Loader(yaml.SafeLoader):
    """YAML whose mappings have every key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(problem="a key that is not a name", problem_mark=key.start_mark)
            if key.value in seen:
                raise _TwiceError(key.value, key.start_mark.line + 1)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
