"""Where the files are that a name means: those in the repository, those that were fetched, and paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from crystalformer_rl.resources.registry import choose

Kind = Literal["policy", "reference", "properties", "stability", "potential", "crystals"]


def located(value: str | Path, kind: Kind, suffixes: tuple[str, ...] = ()) -> Path:
    """The file that `value` means: `embedded`, a name in the registry, which is fetched once, or a path.

    What is fetched is kept in $XDG_CACHE_HOME/crystalformer_rl, by default ~/.cache/crystalformer_rl. Raises InputError for
    a value that is none of these.
    """
    found = choose(kind, str(value), kind, suffixes)
    if isinstance(found, Path):
        return found
    if found.scheme == "embedded":
        return found.embedded_path
    from crystalformer_rl.resources.fetching import fetch

    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crystalformer_rl"
    return fetch(found, folder / found.file_name, lock=folder / "resources.lock.json").path
