"""Fixtures that several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and reference outputs that lie beside a checkout of the developers; elsewhere the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder `shared` beside the repository (real crystals and reference outputs)")
    return SHARED
