"""Crystals that no policy drew: what may be proposed, in which order, and what it earns."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from policy_examples import low_symmetry, rock_salt, rutile

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.crystal.tokens import Sites, sort_sites
from crystalformer_rl.discovery.charge import charge_balanced, metals_alone
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.rollout import Scores
from crystalformer_rl.policy.constraint_settings import ConstraintSettings
from crystalformer_rl.policy.sample_table import sites_columns
from crystalformer_rl.proposals.substitution import substituted
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.scoring.wanted import meets
from crystalformer_rl.stages.propose import propose
from crystalformer_rl.stages.score import score
from crystalformer_rl.stages.select import COLUMNS, select
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS_AND_TOKENS, STATUS
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.status import OK, Status

Z = ATOMIC_NUMBERS


def salt(cation: str, anion: str, a: float) -> Sites:
    return sort_sites(225, [1, 2], [Z[cation], Z[anion]], [[0, 0, 0], [0.5, 0.5, 0.5]], [a, a, a, 90, 90, 90])


def fluorite(cation: str, anion: str, a: float) -> Sites:
    return sort_sites(225, [1, 3], [Z[cation], Z[anion]], [[0, 0, 0], [0.25, 0.25, 0.25]], [a, a, a, 90, 90, 90])


KNOWN = {
    "NaCl": salt("Na", "Cl", 5.64), "KBr": salt("K", "Br", 6.60), "NaBr": salt("Na", "Br", 5.97), "MgO": salt("Mg", "O", 4.21),
    "CaO": salt("Ca", "O", 4.81), "CaF2": fluorite("Ca", "F", 5.46), "SrF2": fluorite("Sr", "F", 5.80),
}  # fmt: skip


@pytest.fixture(scope="module")
def prototypes() -> Prototypes:
    return Prototypes(list(KNOWN), list(KNOWN.values()))


def test_exchanges_come_in_the_order_that_trying_all_of_them_gives(prototypes: Prototypes) -> None:
    """118² exchanges in each of two donors of two roles, by brute force."""
    found = list(itertools.islice(prototypes.exchanged(lambda s: s is KNOWN["KBr"] or s is KNOWN["CaF2"]), 400))
    likeness = prototypes.likeness
    every = []
    for own, family in ((KNOWN["KBr"], 5), (KNOWN["CaF2"], 2)):
        old = own.elements.tolist()
        for new in itertools.permutations(range(1, 119), 2):
            if list(new) != old:
                lost = sum(likeness[a, b] - likeness[a, a] for a, b in zip(old, new, strict=True))
                every.append(lost + 0.5 * np.log(family))
    np.testing.assert_allclose([one.score for one in found], heapq.nlargest(400, every))


def test_likely_exchanges_are_chemistry_and_none_is_proposed_twice(prototypes: Prototypes) -> None:
    balanced = ConstraintSettings(charge_balanced=True)
    found = substituted(prototypes, 40, lambda _: True, meets(balanced))
    kinds = {(one.sites.space_group, tuple(one.sites.wyckoff), tuple(one.sites.elements)) for one in found}
    assert len(found) == len(kinds) == 40
    assert [one.likeness for one in found] == sorted((one.likeness for one in found), reverse=True)  # type: ignore[type-var]
    first = {frozenset(one.sites.elements.tolist()) for one in found[:6]}
    assert {Z["K"], Z["Cl"]} in first
    # The cell follows the volumes of the elements.
    potassium = next(one for one in found if set(one.sites.elements.tolist()) == {Z["K"], Z["Cl"]})
    assert 5.64 < potassium.sites.lattice_parameters[0] < 6.7
    assert {potassium.donor} <= {"NaCl", "KBr", "NaBr"}


REFUSED: list[tuple[dict[str, Any], Sites]] = [
    ({"space_groups": [221]}, rock_salt()),
    ({"elements": ["Na", "F"]}, rock_salt()),
    ({"forbid": ["Cl"]}, rock_salt()),
    ({"require": ["Li"]}, rock_salt()),
    ({"min_elements": 3}, rock_salt()),
    ({"formula": "Na2Cl"}, rock_salt()),
    ({"space_groups": [225], "wyckoff": ["4a"]}, rock_salt()),
    ({"max_atoms": 5}, rutile()),
    ({"charge_balanced": True}, salt("Mg", "Cl", 5.0)),
]
"""Constraints that a crystal does not meet."""

MET: list[tuple[dict[str, Any], Sites]] = [
    ({}, low_symmetry()),
    ({"space_groups": [225], "elements": ["Na", "Cl"], "require": ["Cl"], "formula": "NaCl"}, rock_salt()),
    ({"space_groups": [225], "wyckoff": ["4b", "4a"], "max_atoms": 2, "charge_balanced": True}, rock_salt()),
    ({"space_groups": [225], "wyckoff": ["4b", "8c"]}, KNOWN["CaF2"]),  # written 4a 8c from another origin
    ({"formula": "TiO2", "max_atoms": 6, "min_elements": 2}, rutile()),
]


def test_a_crystal_meets_every_constraint_or_is_refused() -> None:
    for asked, sites in REFUSED:
        assert not meets(ConstraintSettings(**asked))(sites), asked
    for asked, sites in MET:
        assert meets(ConstraintSettings(**asked))(sites), asked


@pytest.fixture(scope="module")
def reference(root: Path) -> Path:
    return root / "resources" / "embedded" / "reference.parquet"


def test_screening_takes_every_crystal_of_the_groups_once_in_an_order_of_chance(reference: Path) -> None:
    wanted = ConstraintSettings(space_groups=[216])
    first, again, other = (propose("screening", reference, 10_000, wanted, seed=seed) for seed in (0, 0, 1))
    table = read_table(reference)
    rows = zip(*(table.column(name).to_pylist() for name in ("id", "role", "space_group", "wyckoff")), strict=True)
    own = {name for name, role, group, letters in rows if role == "pretraining" and group == 216 and letters}
    ids = first.column("id").to_pylist()
    assert set(ids) == own
    assert len(ids) == len(own)
    assert first.equals(again)
    assert other.column("id").to_pylist() != ids
    with pytest.raises(InputError, match="gives no crystal that meets the constraints by screening; ask for less"):
        propose("screening", reference, 10, ConstraintSettings(space_groups=[216], require=["Og"]))


@pytest.mark.slow
def test_substitutions_are_charge_balanced_and_of_the_groups(reference: Path) -> None:
    found = propose("substitution", reference, 300, ConstraintSettings(space_groups=[216, 225]), ionic=True)
    numbers = found.column("atomic_numbers").to_pylist()
    assert found.num_rows == 300
    assert all(charge_balanced(atoms) and not metals_alone(atoms) for atoms in numbers)
    assert set(found.column("space_group").to_pylist()) <= {216, 225}
    exchanges = found.column("exchange").to_pylist()
    assert all("→" in exchange for exchange in exchanges)


def by_lattice(sites: Sequence[Sites | None], statuses: Sequence[str]) -> Scores:
    """A reward that is the first cell length, and an energy above the hull that falls with it."""
    a = np.array([np.nan if s is None else s.lattice_parameters[0] for s in sites])
    reward = np.where(np.isfinite(a), a, -1.0)
    figures = {"energy": -a, "formation_energy": -a, "e_above_hull": (6.0 - a) / 10}
    known = np.array([s is not None and 17 in s.elements for s in sites])
    return Scores(reward, {"reward_length": a}, figures, known, list(statuses), int(np.isfinite(a).sum()))


def crystals_table() -> Any:
    crystals = [*KNOWN.values(), None]
    columns = {"id": [*KNOWN, "none"], **sites_columns(crystals), "status": [OK] * len(KNOWN) + [str(Status.NO_CRYSTAL)]}
    return make_table((*CRYSTALS_AND_TOKENS, STATUS), columns)


def test_every_crystal_is_scored_in_its_place_and_the_best_are_selected() -> None:
    table, told = crystals_table(), []
    found = score(table, by_lattice, batch=3, report=told.append)
    rows = found.rollouts.to_pylist()
    assert [row["id"] for row in rows] == [*KNOWN, "none"]
    assert [row["update"] for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert rows[1]["reward"] == rows[1]["reward_length"] == rows[1]["value"] == pytest.approx(6.6)
    assert rows[-1]["status"] == Status.NO_CRYSTAL
    assert (rows[-1]["reward"], rows[-1]["e_above_hull"], rows[-1]["log_prob"]) == (-1.0, None, None)
    assert [row["evaluations"] for row in told] == found.updates.column("evaluations").to_pylist() == [3, 3, 1]
    assert told[0]["stable_fraction"] == 1.0  # NaCl, KBr and NaBr are at 0.036, −0.06 and 0.003
    best = select(found.rollouts.select([column.name for column in COLUMNS]), 2)
    assert best.table.column("id").to_pylist() == ["KBr", "NaBr"]
    with pytest.raises(InputError, match="holds no crystal"):
        score(table.slice(0, 0), by_lattice)


@pytest.mark.slow
def test_known_compounds_earn_what_a_round_would_give_them(reference: Path, tmp_path: Path) -> None:
    """Sodium chloride and fluorite are on the hull: known, stable, one evaluation each; without tokens as with them."""
    table = crystals_table()
    plain = table.select(["id", "formula", "atomic_numbers", "frac_coords", "lattice"]).slice(0, len(KNOWN))
    found = []
    for name, crystals in (("tokens", table), ("plain", plain)):
        path = tmp_path / f"{name}.parquet"
        write_table(path, crystals, {})
        arguments = ["score", str(path), "--reference", str(reference), "--out", str(tmp_path / name), "--json"]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        summary = json.loads(result.stdout.splitlines()[-1])
        assert summary["status"]["ok"] == len(KNOWN)
        assert summary["evaluations"] == len(KNOWN)
        found.append(read_table(tmp_path / name / "rollouts.parquet").to_pylist())
    for row in found[0][: len(KNOWN)]:
        assert row["e_above_hull"] < 0.1
        # A kind that the policy was not shown, such as one that is held out, earns as a new one.
        assert (row["reward"] == 0.0) == row["known"]
    assert sum(row["known"] for row in found[0][: len(KNOWN)]) >= 3
    energies = [[row["energy"] for row in rows[: len(KNOWN)]] for rows in found]
    np.testing.assert_allclose(*energies, atol=1e-5)
