"""Structures recovered from energies: prototypes, likeness, volumes, acceptance, and that nothing is lost or learned that should not be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS, parse_formula
from crystalformer_rl.crystal.encode import symmetrize
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.crystal.tokens import Sites, decode, token_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.recovery import acceptance
from crystalformer_rl.recovery.acceptance import calibrated, fit
from crystalformer_rl.recovery.likeness import likeness
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.recovery.recover_settings import RecoverSettings
from crystalformer_rl.recovery.targets import wanted
from crystalformer_rl.recovery.volumes import atomic_volumes, ratio
from crystalformer_rl.reference.energies import ReferenceEnergies, read_energies
from crystalformer_rl.stages import recover as stage
from crystalformer_rl.stages.extend import extend
from crystalformer_rl.stages.recover import Plan, judged, known_formulas, recover, structures_of
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.recovery_columns import RECOVERED
from crystalformer_rl.tables.status import STATUSES

Z = ATOMIC_NUMBERS


def sites(group: str, a: float, elements: list[str], coords: list[list[float]]) -> Sites:
    structure = Structure.from_spacegroup(group, Lattice.cubic(a), elements, coords)
    return symmetrize(Crystal(np.array(structure.atomic_numbers), structure.frac_coords, structure.lattice.matrix))


def rock_salt(cation: str, anion: str, a: float) -> Sites:
    return sites("Fm-3m", a, [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def caesium_chloride(cation: str, anion: str, a: float) -> Sites:
    return sites("Pm-3m", a, [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


KNOWN = {
    "NaCl": rock_salt("Na", "Cl", 5.64), "KBr": rock_salt("K", "Br", 6.60), "NaBr": rock_salt("Na", "Br", 5.97),
    "RbCl": rock_salt("Rb", "Cl", 6.58), "MgO": rock_salt("Mg", "O", 4.21), "CaO": rock_salt("Ca", "O", 4.81),
    "CsCl": caesium_chloride("Cs", "Cl", 4.12), "CsBr": caesium_chloride("Cs", "Br", 4.29), "AgZn": caesium_chloride("Ag", "Zn", 3.16),
    "CaF2": sites("Fm-3m", 5.46, ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
}  # fmt: skip


def prototypes() -> Prototypes:
    return Prototypes(list(KNOWN), list(KNOWN.values()))


def test_elements_of_one_prototype_are_alike() -> None:
    families = [[(Z["Na"], Z["Cl"]), (Z["K"], Z["Br"]), (Z["Rb"], Z["Cl"])], [(Z["Ag"], Z["Zn"]), (Z["Au"], Z["Cd"])]]
    found = likeness(families)
    assert np.allclose(found, found.T)
    assert found[Z["Na"], Z["K"]] > found[Z["Na"], Z["Cl"]]
    assert found[Z["Na"], Z["K"]] > found[Z["Na"], Z["Ag"]]
    assert found[Z["Fe"], Z["Fe"]] > found[Z["Na"], Z["K"]]  # nothing is as like as itself


def test_a_large_family_counts_by_its_members_not_their_pairs() -> None:
    few, many = ([[(Z["Na"],), (Z["K"],)] * n for _ in range(1)] for n in (1, 50))
    ten = likeness(many)[Z["Na"], Z["K"]]
    assert ten < likeness(few)[Z["Na"], Z["K"]] + np.log(60)


def test_volumes_of_elements() -> None:
    compositions = [
        {Z["Na"]: 1, Z["Cl"]: 1},
        {Z["K"]: 1, Z["Cl"]: 1},
        {Z["K"]: 1, Z["Br"]: 1},
        {Z["Na"]: 1, Z["Br"]: 1},
    ] * 20
    volumes = [44.8, 62.3, 71.9, 53.2] * 20
    found = atomic_volumes(compositions, volumes)
    for counts, volume in zip(compositions, volumes, strict=True):
        assert ratio(found, counts, compositions[0]) == pytest.approx(volume / 44.8, rel=0.04)


def test_candidates_are_the_prototypes_of_the_stoichiometry_and_never_the_crystal_itself() -> None:
    found = prototypes().candidates(parse_formula("KCl"), 8)
    assert [candidate.sites.space_group for candidate in found] == [225, 221]
    assert {candidate.donor for candidate in found} <= {"NaCl", "RbCl", "KBr", "CsCl"}
    assert all(decode(candidate.sites).formula == "KCl" for candidate in found)
    best = found[0]
    assert best.sites.lattice_parameters[0] == pytest.approx(6.29, rel=0.06)  # KCl's own is 6.29 Å
    assert (best.exchanged, best.family) == (1, 6)
    own = prototypes().candidates(parse_formula("NaCl"), 8)
    assert "NaCl" not in {candidate.donor for candidate in own}
    assert prototypes().candidates(parse_formula("Li3YCl6"), 8) == []


def test_roles_take_the_elements_that_fit_their_numbers() -> None:
    (fluorite,) = prototypes().candidates(parse_formula("SrCl2"), 8)
    assert decode(fluorite.sites).formula == "SrCl2"
    multiplicities = dict(zip(fluorite.sites.elements.tolist(), fluorite.sites.wyckoff.tolist(), strict=True))
    assert multiplicities[Z["Cl"]] == 3  # 8c


def test_donors_of_large_cells_make_no_candidates() -> None:
    assert Prototypes(list(KNOWN), list(KNOWN.values()), most_atoms=1).candidates(parse_formula("KCl"), 8) == []


# --- which compositions ----------------------------------------------------------------


@pytest.fixture(scope="module")
def energies(root: Path) -> ReferenceEnergies:
    return read_energies(root / "resources" / "embedded" / "reference.parquet")


def compositions(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


def test_formulas_that_must_not_be_learned_are_refused(energies: ReferenceEnergies) -> None:
    salts = [cation + anion for cation in ("Li", "Na", "K", "Rb", "Cs", "Ag", "Tl") for anion in ("F", "Cl", "Br", "I")]
    kept, hidden = (next(formula for formula in salts if held_out(formula) is hide) for hide in (False, True))
    table = compositions(
        formula=[kept, hidden, kept, "Ag3", "salt", "XeRn2"], reserved=[False, False, True, False, False, False]
    )
    found = {one.formula: one.status for one in wanted(table, energies, {"NaCl"}, "t")}
    # reserved in one row is reserved
    assert found == {
        kept: "held_out",
        hidden: "held_out",
        "Ag": "known_structure",
        "salt": "unreadable",
        "Rn2Xe": "no_reference_energy",
    }
    (reserved,) = wanted(compositions(formula=[kept], reserved=[True]), energies, set(), "t")
    assert reserved.status == "held_out"
    (known,) = wanted(compositions(formula=[kept]), energies, {kept}, "t")
    assert known.status == "known_structure"


def test_the_potentials_energy_is_that_of_dft_and_its_bias(energies: ReferenceEnergies) -> None:
    (one,) = wanted(compositions(formula=["Na4Cl4"], dft_formation_energy=[-2.1], n_entries=[3]), energies, set(), "t")
    assert one.target is not None
    assert energies.bias is not None
    assert one.target.counts == {11: 1, 17: 1}
    assert one.target.expected == pytest.approx(-2.1 + energies.bias.of({11: 1, 17: 1}))
    assert one.target.entries == 3
    assert one.height is not None


def test_a_table_without_formulas_is_named(energies: ReferenceEnergies) -> None:
    with pytest.raises(InputError, match="t has no column 'formula'; it has name"):
        wanted(pa.table({"name": ["a"]}), energies, set(), "t")


# --- acceptance ----------------------------------------------------------------------------


def test_the_fit_finds_the_law_that_made_the_data() -> None:
    random = np.random.default_rng(0)
    law = np.array([-0.5, 2.0, -1.0])
    rows, right = [], []
    for _ in range(4000):
        part = np.concatenate([np.ones((3, 1)), random.normal(size=(3, 2))], axis=1)
        z = np.append(part @ law, 0.0)
        shares = np.exp(z) / np.exp(z).sum()
        drawn = random.choice(4, p=shares)
        rows.append(part)
        right.append(np.arange(3) == drawn)
    found = fit(rows, right, [1.0] * len(rows), second=False, ridge=1e-3)
    assert found.weights / np.append(1.0, found.scales[1:]) == pytest.approx(law, abs=0.25)
    mean = np.mean([found.probabilities(part)[int(found.probabilities(part).argmax())] for part in rows])
    hits = np.mean([good[int(found.probabilities(part).argmax())] for part, good in zip(rows, right, strict=True)])
    assert mean == pytest.approx(hits, abs=0.02)  # calibrated


def test_the_acceptance_that_comes_with_the_package_asks_what_it_should() -> None:
    for second, model in calibrated().items():
        named = dict(
            zip(json.loads(acceptance.FILE.read_text())["acceptances"][int(second)]["features"], model.weights, strict=True)
        )
        assert named["exchanged"] < 0 < named["least likeness"]
        assert (named["second log residual"] if second else named["log residual"]) < 0
        assert np.isfinite(model.scales).all()
        assert (model.scales > 0).all()
        assert model.probabilities(np.zeros((0, len(named)))).sum() == 0
        p = model.probabilities(np.array([model.means, model.means]))
        assert p[0] == p[1]
        assert 0 < p.sum() < 1


# --- the whole stage -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(root: Path) -> Plan:
    return Plan(
        str(root / "resources" / "embedded" / "reference.parquet"),
        "chgnet",
        "cpu",
        RecoverSettings(second=None, relaxed=2, max_e_above_hull=10),
    )


def test_a_known_structure_that_is_left_out_is_found_again(plan: Plan, root: Path) -> None:
    """Pnictides of rare earths, whose structures the reference holds, from other compounds alone."""
    from crystalformer_rl.recovery.attempt import Target, attempts

    names = ["formula", "space_group", "wyckoff", "role", "atomic_numbers", "frac_coords", "lattice", "dft_formation_energy"]
    table = pq.read_table(plan.reference, columns=names)
    salts = [
        row
        for row in table.to_pylist()
        if row["role"] == "pretraining" and (row["space_group"], row["wyckoff"]) == (225, [1, 2])
    ]
    salts = [
        row
        for row in salts
        if set(row["atomic_numbers"]) & set(range(57, 72)) and set(row["atomic_numbers"]) & {7, 15, 33, 51}
    ]
    rows = {row["formula"]: row for row in sorted(salts, key=lambda row: str(row["formula"]))[:4]}
    assert len(rows) == 4
    means = plan.means()
    bias = read_energies(plan.reference).bias
    assert bias is not None
    targets = [
        Target(f, parse_formula(f), row["dft_formation_energy"], row["dft_formation_energy"] + bias.of(parse_formula(f)))
        for f, row in rows.items()
    ]
    right = 0
    for attempt, row in zip(attempts(targets, means), rows.values(), strict=True):
        assert row["formula"] not in {one.candidate.donor for one in attempt.tried}
        best = judged(structures_of(attempt, None), RecoverSettings())
        found, known = (
            Structure(np.reshape(own["lattice"], (3, 3)), own["atomic_numbers"], np.reshape(own["frac_coords"], (-1, 3)))
            for own in (best, row)
        )
        right += StructureMatcher().fit(found, known)
        assert abs(best["residual"]) < 0.06
    assert right >= 3


def test_a_killed_run_goes_on_and_every_composition_has_a_row(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = compositions(formula=["LiTm", "HoBi2", "NaCl", "Nonsense1"], dft_formation_energy=[-0.1, -0.3, -2.0, 0.0])
    monkeypatch.setattr(stage, "SHARD", 1)
    first = recover(asked, plan, tmp_path)
    assert set(first.column("formula").to_pylist()) == {"LiTm", "HoBi2", "NaCl", "Nonsense1"}
    assert set(first.column("status").to_pylist()) <= STATUSES.keys()
    rows = {row["formula"]: row for row in first.to_pylist()}
    assert rows["NaCl"]["status"] == "known_structure" or held_out("NaCl")
    assert rows["Nonsense1"]["status"] == "unreadable"
    for name in ("LiTm", "HoBi2"):
        if rows[name]["atomic_numbers"] is not None:
            assert 0 <= rows[name]["p_right"] <= 1
            assert rows[name]["weight"] in (0, rows[name]["p_right"])
            assert rows[name]["donor"]
    parts = sorted(tmp_path.glob("recovered_*.parquet"))
    parts[0].unlink()
    computed: list[int] = []
    made = stage._compute
    monkeypatch.setattr(stage, "_compute", lambda part, path: computed.append(len(part)) or made(part, path))
    again = recover(asked, plan, tmp_path)
    assert computed == [1]
    limited = replace(plan, settings=plan.settings.model_copy(update={"limit": 1}))
    statuses = recover(asked, limited, tmp_path).column("status").to_pylist()
    assert (len(statuses), statuses.count("not_attempted")) == (4, 1)
    record = tmp_path / "made_by.json"
    record.write_text(record.read_text().replace("chgnet", "another"))
    with pytest.raises(InputError, match="parts of other potentials"):
        recover(asked, plan, tmp_path)
    assert again.drop_columns(["energy"]).to_pylist() == first.drop_columns(["energy"]).to_pylist()


# --- in a reference ------------------------------------------------------------------------


def accepted(root: Path, folder: Path, formula: str) -> Path:
    """A RECOVERED table with one structure, which is rock salt, and one that was not accepted."""
    own = rock_salt(*(SYMBOLS[z - 1] for z in parse_formula(formula)), 5.6)
    crystal = decode(own)
    row = crystal_columns([crystal]) | token_columns([own], coords_name="site_frac_coords")
    first = {name: values[0] for name, values in row.items()} | {
        "id": f"recovered-{formula}", "energy": -3.0, "formation_energy": -1.0, "evaluations": 9, "p_right": 0.9, "weight": 0.9, "status": "ok"
    }  # fmt: skip
    second = first | {"id": "recovered-NaI", "formula": "NaI", "weight": 0.0, "status": "not_accepted"}
    write_table(folder / "recovered.parquet", table_of_rows(RECOVERED, [first, second]), {})
    return folder / "recovered.parquet"


def test_recovered_structures_join_a_reference_and_change_no_energy(root: Path, tmp_path: Path) -> None:
    reference = root / "resources" / "embedded" / "reference.parquet"
    recovered = accepted(root, tmp_path, "LiTm")
    ran = CliRunner().invoke(cli, ["extend", str(reference), str(recovered), "--out", str(tmp_path / "extended.parquet")])
    assert ran.exit_code == 0, ran.output
    table = read_table(tmp_path / "extended.parquet")
    known = read_table(reference)
    assert table.num_rows == known.num_rows - known["role"].to_pylist().count("recovered") + 1
    assert table["role"].to_pylist().index("recovered") == table.num_rows - 1
    before, after = read_energies(reference), read_energies(tmp_path / "extended.parquet")
    assert after.bias == before.bias
    assert after.phases.table.num_rows == before.phases.table.num_rows
    assert after.identity == before.identity
    assert not any(name.startswith("recovered-") for name in after.phases.table["id"].to_pylist())
    again = extend(tmp_path / "extended.parquet", recovered)
    assert again["id"].to_pylist() == table["id"].to_pylist()
    renamed = read_table(recovered).to_pylist()
    renamed[0]["id"] = next(
        name for name, role in zip(known["id"].to_pylist(), known["role"].to_pylist(), strict=True) if role == "hull_only"
    )
    write_table(tmp_path / "renamed.parquet", table_of_rows(RECOVERED, renamed), {})
    with pytest.raises(InputError, match="already, in another role"):
        extend(reference, tmp_path / "renamed.parquet")


def test_what_was_recovered_before_is_looked_for_again(root: Path) -> None:
    reference = root / "resources" / "embedded" / "reference.parquet"
    table = read_table(reference)
    formulas: dict[str, set[str]] = {}
    for formula, role in zip(table["formula"].to_pylist(), table["role"].to_pylist(), strict=True):
        formulas.setdefault(role, set()).add(formula)
    known = known_formulas(reference)
    assert formulas["recovered"]
    assert formulas["recovered"] & known <= formulas["pretraining"]
    assert formulas["recovered"] - known
    assert len(formulas["pretraining"] & known) > 0.99 * len(formulas["pretraining"])


def test_a_reference_is_not_extended_by_what_is_held_out(root: Path, tmp_path: Path) -> None:
    salts = (f"{a}{b}" for a in ("Li", "Na", "K", "Rb", "Cs") for b in ("F", "Cl", "Br", "I"))
    formula = next(name for name in salts if held_out(name))
    with pytest.raises(InputError, match=f"{formula} is held out"):
        extend(root / "resources" / "embedded" / "reference.parquet", accepted(root, tmp_path, formula))
