"""Print the requirement of torch, as pyproject.toml states it."""

from __future__ import annotations

import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

extras = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
print(next(requirement for requirement in extras["potential"] if requirement.startswith("torch>")))
