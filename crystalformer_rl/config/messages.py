"""Settings checked against their model; what is wrong is one sentence that names setting, value and remedy."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from crystalformer_rl.errors import InputError


def validate(model: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
    for key in _keys(values):
        if not isinstance(key, str):
            raise InputError(
                f"{where}: '{key}' is not a name of a setting; write one, in quotes where it is a number or date."
            )
    values = {
        key: value for key, value in _from_text(model, values).items() if value is not None or not _is_section(model, key)
    }
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        sentence = _sentence(model, problems[0])
        others = [_dotted(problem["loc"]) for problem in problems[1:]]
        if others:
            sentence += f" Wrong too: {', '.join(others)}."
        raise InputError(f"{where}: {sentence}") from error


_WORDS = {"true": True, "false": False}


def _from_text(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with `true`, `false` and `null` as YAML means them, where they came as texts and the setting takes them.

    Snakemake reads whatever its command line nests as texts; numbers among them are taken by pydantic.
    """
    return {
        key: _value(model.model_fields[key].annotation, v) if key in model.model_fields else v for key, v in values.items()
    }


def _value(annotation: Any, value: Any) -> Any:
    choices = _choices(annotation)
    if isinstance(value, str):
        if value == "null" and type(None) in choices:
            return None
        return _WORDS.get(value, value) if bool in choices else value
    section = next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), None)
    if isinstance(value, Mapping):
        inner = next((typing.get_args(c)[1] for c in choices if typing.get_origin(c) is dict), None)
        if section is not None:
            return _from_text(section, value)
        return value if inner is None else {key: _value(inner, one) for key, one in value.items()}
    if isinstance(value, list):
        inner = next((typing.get_args(c)[0] for c in choices if typing.get_origin(c) is list), None)
        return value if inner is None else [_value(inner, one) for one in value]
    return value


def _choices(annotation: Any) -> list[Any]:
    """What an annotation may be: the members of a union, each without its constraints."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _choices(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [choice for one in typing.get_args(annotation) for choice in _choices(one)]
    return [annotation]


def _keys(values: Any) -> Iterator[Any]:
    """All keys of nested mappings and lists."""
    if isinstance(values, Mapping):
        yield from values
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _keys(value)


def _is_section(model: type[BaseModel], key: str) -> bool:
    field = model.model_fields.get(key)
    return field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _sentence(model: type[BaseModel], problem: ErrorDetails) -> str:
    """One problem in words: the setting, its value, the remedy."""
    name, value = _dotted(problem["loc"]), problem["input"]
    if problem["type"] == "extra_forbidden":
        return f"'{name}' is not a setting; {_suggestion(model, problem['loc'])}."
    if problem["type"] in ("model_type", "model_attributes_type"):
        return f"'{name}' is {value!r}, but it is a section; indent its settings below it."
    if problem["type"] == "missing":
        return f"'{name}' is missing; give {_expected(model, problem['loc'])}."
    reason = str(problem.get("ctx", {}).get("error", ""))
    if reason and not reason.startswith("Input should"):
        return f"'{name}' is wrong: {reason}." if name else f"{reason}."
    return f"'{name}' is {value!r}; give {_expected(model, problem['loc'])}."


def _dotted(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place if part != "[key]")


def _suggestion(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """What a wrong key was probably meant to be: a near name, else the same name in another section."""
    section = model
    for part in place[:-1]:
        section = _section_in(section.model_fields[part].annotation) if part in section.model_fields else section
    key, prefix = str(place[-1]), _dotted(place[:-1])
    near = difflib.get_close_matches(key, section.model_fields, n=1)
    if near:
        return f"did you mean '{prefix + '.' if prefix else ''}{near[0]}'"
    elsewhere = [name for name in _settings(model) if name.split(".")[-1] == key]
    if elsewhere:
        return f"did you mean '{elsewhere[0]}'"
    return f"remove it, or use one of {', '.join(section.model_fields)}"


def _section_in(annotation: Any) -> type[BaseModel]:
    """The section that an annotation holds, alone, in a list, in a mapping or beside null."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = [inner for inner in typing.get_args(annotation) if inner is not type(None)]
    return _section_in(found[-1])


def _settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings."""
    for name, field in model.model_fields.items():
        if _is_section(model, name):
            yield from _settings(typing.cast(type[BaseModel], field.annotation), f"{prefix}{name}.")
        else:
            yield prefix + name


def _expected(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """What a setting takes, in words: `a whole number from 1 to 230`."""
    whole = model.model_json_schema()
    if place[-1] == "[key]":
        return "a name of small letters, digits and underscores, a letter first"
    found: dict[str, Any] = whole
    for part in place:
        found = _plain(whole, found)
        if isinstance(part, int):
            found = found["items"]
        else:
            found = found["properties"][part] if part in found.get("properties", {}) else _of_any_key(found)
    or_null = any(choice.get("type") == "null" for choice in found.get("anyOf", ()))
    found = _plain(whole, found)
    choices = found.get("enum") or ([found["const"]] if "const" in found else [])
    if choices:
        words = " or ".join(f"'{choice}'" for choice in choices)
    elif found.get("type") == "boolean":
        words = "true or false"
    elif found.get("type") == "array":
        words = _list_words(found)
    elif found.get("type") == "string":
        words = "some text"
    elif found.get("type") == "object":
        words = "settings, indented below it"
    else:
        words = _number_words(found)
    words += (", or null" if found.get("type") == "array" else " or null") if or_null else ""
    default = None if found.get("type") in ("array", "object") else found.get("default")
    return words + (
        ""
        if choices or default is None
        else f", such as the default {str(default).lower() if isinstance(default, bool) else default}"
    )


def _of_any_key(found: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping's values."""
    return next(iter(found.get("patternProperties", {}).values()), None) or found.get("additionalProperties") or {}


def _plain(whole: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """A part of a schema with its reference followed, and without the null that it may be instead."""
    if "anyOf" in found:
        default = {"default": found["default"]} if found.get("default") is not None else {}
        found = default | next(choice for choice in found["anyOf"] if choice.get("type") != "null")
    if "$ref" in found:
        return _plain(whole, whole["$defs"][found["$ref"].rsplit("/", 1)[1]])
    return found


def _list_words(found: dict[str, Any]) -> str:
    """`a list of 2, each a number`."""
    least, most, items = found.get("minItems"), found.get("maxItems"), found["items"]
    count = "" if least is None else f" of {least}" if least == most else f" of at least {least}"
    if items.get("type") == "string":
        return f"a list{count}, each some text"
    return f"a list{count}, each " + (_number_words(items) if "type" in items else "a group of settings")


def _number_words(found: dict[str, Any]) -> str:
    words = "a whole number" if found.get("type") == "integer" else "a number"
    low, high = found.get("minimum"), found.get("maximum")
    above, below = found.get("exclusiveMinimum"), found.get("exclusiveMaximum")
    if "multipleOf" in found:
        words += f", a multiple of {found['multipleOf']},"
    if low is not None and high is not None:
        return f"{words} from {low} to {high}"
    bounds = [f"{text} {bound}" for text, bound in (
        ("from", low), ("above", above), ("up to", high), ("below", below)) if bound is not None]  # fmt: skip
    return " ".join([words, " and ".join(bounds)]).strip()
