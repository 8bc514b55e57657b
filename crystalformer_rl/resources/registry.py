"""The registry: what can be fetched by name, from where, under which licence, with which digest."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

import crystalformer_rl
from crystalformer_rl.errors import InputError

Kind = Literal["policy", "reference", "properties", "stability", "crystals", "potential", "hull", "any"]
KINDS = ("policy", "reference", "properties", "stability", "crystals", "potential", "hull")
SCHEMES = ("https", "http", "file", "embedded")


@dataclass(frozen=True)
class Digest:
    """What a file's content must be: `sha256`, or `git-blob-sha1` as Git names a file."""

    kind: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """From `sha256:HEX` or `git-blob-sha1:HEX`; HEX alone is a sha256. Raises ValueError."""
        kind, _, value = text.strip().lower().rpartition(":")
        kind = kind or "sha256"
        length = {"sha256": 64, "git-blob-sha1": 40}.get(kind)
        if length is None or not re.fullmatch(rf"[0-9a-f]{{{length}}}", value):
            raise ValueError(f"'{text}' is not a digest")
        return cls(kind, value)

    @classmethod
    def of(cls, path: Path, kind: str) -> Digest:
        """The digest of a file's content."""
        hasher = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
        if kind == "git-blob-sha1":
            hasher.update(b"blob %d\0" % path.stat().st_size)
        with open(path, "rb") as stream:
            while block := stream.read(1 << 20):
                hasher.update(block)
        return cls(kind, hasher.hexdigest())

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"


@dataclass(frozen=True)
class Resource:
    """A registry entry, or an address that the user gave (then `kind` is `any`)."""

    name: str
    url: str
    kind: Kind = "any"
    format: str = ""
    member: str | None = None
    size: int | None = None
    digest: Digest | None = None
    description: str = ""
    licence: str = ""
    citation: str = ""

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def embedded_path(self) -> Path:
        """Where an embedded resource lies in the repository."""
        return embedded_folder() / self.url.removeprefix("embedded:")

    @property
    def file_name(self) -> str:
        """The name under which a run keeps it: an embedded file's own, else the name with the suffix of what is read."""
        if self.scheme == "embedded":
            return self.embedded_path.name
        return self.name + Path(self.member or urlsplit(self.url).path).suffix


def embedded_folder() -> Path:
    """The repository's `resources/embedded`, beside the package."""
    return Path(crystalformer_rl.__file__).resolve().parent.parent / "resources" / "embedded"


@functools.cache
def load_registry() -> Mapping[str, Resource]:
    """All named resources, in the registry's order."""
    text = importlib.resources.files("crystalformer_rl.resources").joinpath("registry.yaml").read_text(encoding="utf-8")
    return {name: _resource(name, fields) for name, fields in yaml.safe_load(text).items()}


def _resource(name: str, fields: dict[str, Any]) -> Resource:
    digest = fields.pop("digest", None)
    return Resource(name, digest=Digest.parse(digest) if digest else None, **fields)


def find(name_or_url: str) -> Resource:
    """The registry's entry of that name, or a resource for that address.

    Raises InputError for an unknown name and for addresses other than https, http and file.
    """
    registry = load_registry()
    if name_or_url in registry:
        return registry[name_or_url]
    try:
        scheme, host = urlsplit(name_or_url).scheme, urlsplit(name_or_url).hostname
    except ValueError as error:
        raise InputError(f"'{name_or_url}' is not an address; write it as https://example.org/file.") from error
    if not scheme:
        raise InputError(f"'{name_or_url}' is neither in the registry nor an address{_near(name_or_url, registry)}")
    if scheme not in SCHEMES or scheme == "embedded":
        raise InputError(f"'{name_or_url}': addresses with '{scheme}:' are not fetched; use https, http or file.")
    if scheme != "file" and not host:
        raise InputError(f"'{name_or_url}' names no host; write the whole address, such as https://example.org/file.")
    return Resource(Path(urlsplit(name_or_url).path).name or "download", name_or_url)


def choose(setting: str, value: str, kind: Kind, suffixes: tuple[str, ...] = ()) -> Resource | Path:
    """What a setting of a run means: `embedded`, a name in the registry, or an existing path.

    Args:
        setting: dotted name of the setting, for the error.
        value: its value.
        kind: what the resource must be.
        suffixes: endings that a path must have one of; none means any.

    Raises InputError where the value is not a resource of that kind and no such path exists.
    """
    name = f"embedded-{kind}" if value == "embedded" else value
    registry = load_registry()
    of_kind = {key: resource for key, resource in registry.items() if resource.kind == kind}
    if name in of_kind:
        return of_kind[name]
    if name in registry:
        raise InputError(
            f"'{setting}' is '{value}', which is of kind {registry[name].kind}; give one of {', '.join(of_kind)}."
        )
    path = Path(value)
    if not path.exists():
        raise InputError(f"'{setting}' is '{value}', neither a resource nor an existing path{_near(value, of_kind)}")
    if suffixes and path.suffix not in suffixes:
        raise InputError(f"'{setting}' is '{value}'; give a file that ends in {' or '.join(suffixes)}.")
    return path


def _near(name: str, among: Mapping[str, Resource]) -> str:
    near = difflib.get_close_matches(name, among, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; the registry has {', '.join(among)}."
