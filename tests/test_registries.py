"""Potentials and objectives of other packages, found by their entry points."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from crystalformer_rl.config.loading import parse_config
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune import objective_registry
from crystalformer_rl.potential import potential_registry as registry


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points of a package that is not there."""
    points = [
        EntryPoint("lj", "calculators:lennard_jones", registry.ENTRY_POINTS),
        EntryPoint("chgnet", "calculators:lennard_jones", registry.ENTRY_POINTS),
        EntryPoint("mine", "objectives:Mine", objective_registry.ENTRY_POINTS),
        EntryPoint("ppo", "objectives:Mine", objective_registry.ENTRY_POINTS),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [p for p in points if p.group == group])
    return points


def config(**sections: Any) -> Any:
    return parse_config(sections, "config.yaml")


@pytest.mark.usefixtures("installed")
def test_a_potential_of_another_package_has_a_name_and_ours_keep_theirs() -> None:
    assert registry.find("lj")[0].maker == "calculators:lennard_jones"
    assert registry.module_of("chgnet") == "crystalformer_rl.potential.chgnet"
    assert "lj" in registry.names()
    with pytest.raises(InputError, match=r"'lk' is not a potential; choose one of chgnet, .* lj"):
        registry.find("lk")


@pytest.mark.usefixtures("installed")
def test_an_objective_of_another_package_is_a_value_of_the_configuration() -> None:
    assert config(finetune={"algorithm": "mine"}).finetune.algorithm == "mine"
    assert objective_registry.registered()["ppo"] == "crystalformer_rl.finetune.objectives:PPO"


def test_without_that_package_its_objective_is_refused() -> None:
    with pytest.raises(InputError, match="'mine' is not an objective"):
        config(finetune={"algorithm": "mine"})


def test_a_fingerprint_follows_the_file_that_decides_the_energies(tmp_path: Path) -> None:
    """Weights of a package, a checkpoint, or the source of a calculator; nothing where it is in another environment."""
    checkpoint = tmp_path / "some.model"
    checkpoint.write_bytes(b"one")
    first = registry.fingerprint(f"mace:{checkpoint}")
    other = tmp_path / "other.model"
    other.write_bytes(b"two")
    assert first["name"] == "mace:some.model"
    assert first["sha256"] != registry.fingerprint(f"mace:{other}")["sha256"]
    assert len(registry.fingerprint("ase:calculators:lennard_jones")["sha256"]) == 64
    assert "sha256" not in registry.fingerprint("ase:package_that_is_not_there.calculators:Mine")
