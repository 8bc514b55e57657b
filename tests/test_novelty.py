"""Novelty against StructureMatcher on all pairs, the roles of the reference, prototypes, and the command."""

from __future__ import annotations

import json
from itertools import combinations, permutations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from discovery_examples import (
    FCC,
    caesium_chloride,
    crystal,
    crystal_table,
    disguised,
    doubled,
    fluorite,
    perovskite,
    rock_salt,
    salt_reference,
    write_reference,
    zincblende,
)

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, symbol
from crystalformer_rl.crystal.encode import symmetrize
from crystalformer_rl.crystal.prototype import Prototype, kind, letter_permutations, prototype
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.wyckoff import wyckoff_table
from crystalformer_rl.discovery.distinct import Distinct
from crystalformer_rl.discovery.known_structures import Known
from crystalformer_rl.discovery.matching import MatchError, composition_key, reduced_structure, same_structure, to_structure
from crystalformer_rl.discovery.novelty_table import novelty_table as novelty
from crystalformer_rl.discovery.ordering import disordered_parent, shared_sites, similar
from crystalformer_rl.errors import InputError
from crystalformer_rl.stages.novelty import novelty as run_novelty
from crystalformer_rl.tables.discovery_columns import NOVELTY
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import read_provenance


@pytest.fixture
def known(tmp_path):
    return Known.from_reference(write_reference(tmp_path / "reference.parquet", salt_reference()))


def variants() -> list[Crystal]:
    """Polymorphs and disguises of one formula, and neighbours of other formulas."""
    base = [rock_salt("Na", "Cl", 5.6), zincblende("Na", "Cl", 6.1), caesium_chloride("Na", "Cl", 3.5)]
    crystals = list(base)
    for seed, c in enumerate(base):
        crystals += [disguised(c, seed), disguised(doubled(c), seed + 10), disguised(c, seed + 20, noise=0.03)]
        crystals.append(Crystal(c.atomic_numbers, c.frac_coords, c.lattice * np.array([[1.0], [1.0], [1.15]])))
    crystals += [rock_salt("Cl", "Na", 5.0), rock_salt("Na", "Br", 5.6), fluorite("Na", "Cl"), fluorite("Cl", "Na")]
    return crystals


def matches_by_pymatgen(a: Crystal, b: Crystal) -> bool:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return bool(StructureMatcher().fit(to_structure(a), to_structure(b)))


def matches(a: Crystal, b: Crystal) -> bool:
    if composition_key(a.atomic_numbers) != composition_key(b.atomic_numbers):
        return False
    return same_structure(reduced_structure(a), reduced_structure(b))


def test_verdicts_are_those_of_structure_matcher_on_all_pairs():
    crystals = variants()
    pairs = list(combinations(crystals, 2))
    expected = [matches_by_pymatgen(a, b) for a, b in pairs]
    assert 10 < sum(expected) < len(pairs) - 10  # the pairs try both verdicts
    assert [matches(a, b) for a, b in pairs] == expected


def test_verdicts_are_those_of_structure_matcher_on_real_polymorphs(real_crystals):
    table = real_crystals
    counts = table["formula"].value_counts().to_pylist()
    rich = sorted(c["values"] for c in counts if 3 <= c["counts"] <= 6)[::40][:12]
    table = table.filter(
        pc.and_(pc.is_in(table["formula"], pc.cast(rich, table["formula"].type)), pc.less(table["n_atoms"], 21))
    )
    crystals = [c for c in crystals_from_table(table)[0] if c is not None]
    crystals += [disguised(c, i, noise=0.02) for i, c in enumerate(crystals[:12])]
    same_formula = [(a, b) for a, b in combinations(crystals, 2) if a.formula == b.formula]
    others = [(a, b) for a, b in combinations(crystals, 2) if a.formula != b.formula][::25]
    expected = [matches_by_pymatgen(a, b) for a, b in same_formula + others]
    assert any(expected)
    assert [matches(a, b) for a, b in same_formula + others] == expected


def test_one_of_each_structure_is_unique(known):
    crystals = variants()
    table = novelty(crystal_table(crystals), known)
    first = list(range(len(crystals)))  # of each crystal's connected component
    for i, j in combinations(range(len(crystals)), 2):
        if matches_by_pymatgen(crystals[i], crystals[j]) or matches_by_pymatgen(crystals[j], crystals[i]):
            low, high = sorted((first[i], first[j]))
            first = [low if k == high else k for k in first]
    for i, row in enumerate(table.to_pylist()):
        assert row["unique"] == (first[i] == i)
        assert row["duplicate_of"] == (None if first[i] == i else f"c{first[i]}")


def test_novel_means_that_no_pretraining_structure_matches(known):
    entries = salt_reference()
    crystals = [
        *variants(),
        perovskite("Sr", "Ti", "O", 3.9, corner="b"),
        rock_salt("K", "Br", 6.6),
        rock_salt("Mg", "O", 4.2),
    ]
    table = novelty(crystal_table(crystals), known)
    for c, row in zip(crystals, table.to_pylist(), strict=True):
        seen = [name for name, (e, role) in entries.items() if role == "pretraining" and matches_by_pymatgen(c, e)]
        assert row["novel"] == (not seen)
        if seen:
            assert row["match_id"] == seen[0]
            assert row["match_role"] == "pretraining"


def test_a_held_out_match_is_a_rediscovery_and_a_hull_only_entry_knows_the_formula_alone(known):
    table = novelty(crystal_table([rock_salt("K", "Br", 6.6), rock_salt("Mg", "O", 4.2), zincblende("Zn", "S", 5.5)]), known)
    rediscovered, formula_only, retrieved = table.to_pylist()
    assert (rediscovered["novel"], rediscovered["rediscovered"]) == (True, True)
    assert (rediscovered["match_id"], rediscovered["match_role"]) == ("rs-KBr", "held_out")
    assert (formula_only["novel"], formula_only["rediscovered"], formula_only["known_level"]) == (True, False, "formula")
    assert formula_only["match_id"] is None
    assert (retrieved["novel"], retrieved["rediscovered"], retrieved["match_id"]) == (False, False, "zb-ZnS")


def test_a_pretraining_match_comes_before_a_held_out_one(tmp_path):
    entries = {"held": (rock_salt("Na", "Cl"), "held_out"), "seen": (rock_salt("Na", "Cl", 5.7), "pretraining")}
    known = Known.from_reference(write_reference(tmp_path / "r.parquet", entries))
    row = novelty(crystal_table([rock_salt("Na", "Cl", 5.5)]), known).to_pylist()[0]
    assert (row["novel"], row["match_id"]) == (False, "seen")


def test_a_recovered_structure_is_not_new_and_shows_no_more_than_its_formula(tmp_path):
    """The policy was trained on it, but nobody knows that it is right; nor does it give its elements to others."""
    entries = {
        "seen": (rock_salt("Na", "Cl"), "pretraining"),
        "recovered-CsCl": (caesium_chloride("Cs", "Cl"), "recovered"),
    }
    known = Known.from_reference(write_reference(tmp_path / "r.parquet", entries))
    crystals = [caesium_chloride("Cs", "Cl"), rock_salt("Cs", "Cl"), caesium_chloride("Rb", "Br"), rock_salt("Rb", "Br")]
    same, polymorph, substituted, of_known = novelty(crystal_table(crystals), known).to_pylist()
    assert (same["novel"], same["match_role"], same["known_level"]) == (False, "recovered", "formula")
    assert (polymorph["novel"], polymorph["match_id"], polymorph["known_level"]) == (True, None, "formula")
    assert (substituted["novel"], substituted["known_level"]) == (True, "none")
    assert of_known["known_level"] == "substitution"


def test_the_ladder_of_what_is_known(known):
    expected = {
        "structure": rock_salt("Na", "Cl"),
        "formula": caesium_chloride("Na", "Cl"),
        "substitution": perovskite("Ba", "Zr", "O", 4.2, corner="b"),
        "chemical_system": copper_gold("Zn", "S"),
        "none": copper_gold("Al", "Au"),
    }
    table = novelty(crystal_table(list(expected.values())), known)
    assert table.column("known_level").to_pylist() == list(expected)
    assert all(table.column("status").to_pylist()[i] == "ok" for i in range(len(expected)))


def test_no_element_is_new(known):
    copper = crystal("Cu", [[0, 0, 0]], FCC * 3.6)
    row = novelty(crystal_table([copper]), known).to_pylist()[0]
    assert (row["novel"], row["known_level"], row["known_partner"]) == (True, "formula", "elemental-Cu")


def test_a_compound_on_the_same_positions_that_its_elements_share_otherwise_is_a_prototype(tmp_path):
    half_heusler = crystal("Zr Ni Sn", [[0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5]], FCC * 6.1)
    known = Known.from_reference(write_reference(tmp_path / "r.parquet", {"hh": (half_heusler, "pretraining")}))
    shared = crystal("Li Al Al", half_heusler.frac_coords.tolist(), half_heusler.lattice)  # of two elements on the three
    row = novelty(crystal_table([shared]), known).to_pylist()[0]
    assert (row["known_level"], row["known_partner"], row["space_group_001"]) == ("prototype", "hh", 216)


def test_another_order_of_similar_elements_is_an_ordering(tmp_path):
    def layered(*metals: str) -> Crystal:  # rock salt with the metals of four cells in a row, an ordered solid solution
        coords = [
            [0, 0, 0],
            [0.5, 0.5, 0],
            [0.5, 0, 0.5],
            [0, 0.5, 0.5],
            [0.5, 0.5, 0.5],
            [0, 0, 0.5],
            [0, 0.5, 0],
            [0.5, 0, 0],
        ]
        return crystal(f"{' '.join(metals)} O O O O", coords, np.diag([4.2, 4.2, 4.2]))

    def stacked(*metals: str) -> Crystal:
        one = layered(*metals[:4])
        two = layered(*metals[4:])
        coords = np.concatenate([one.frac_coords * [1, 1, 0.5], two.frac_coords * [1, 1, 0.5] + [0, 0, 0.5]])
        return Crystal(np.concatenate([one.atomic_numbers, two.atomic_numbers]), coords, one.lattice * [[1], [1], [2.0]])

    mixed, apart = layered("Co", "Co", "Ni", "Ni"), stacked(*["Co"] * 4, *["Ni"] * 4)
    known = Known.from_reference(write_reference(tmp_path / "r.parquet", {"mixed": (mixed, "pretraining")}))
    other = stacked(*["Co"] * 4, *["Sn"] * 4)
    far = caesium_chloride("Co", "Ni")
    table = novelty(crystal_table([mixed, apart, other, far, disguised(apart, 3)]), known)
    assert table.column("known_level").to_pylist() == ["structure", "ordering", "none", "none", "ordering"]
    assert table.column("known_partner").to_pylist()[1] == "mixed"
    assert table.column("unique").to_pylist() == [True, True, True, True, False]
    assert table.column("unique_parent").to_pylist() == [True, False, True, True, False]


def test_orderings_are_those_of_pymatgen_with_fractional_occupation(real_crystals):
    """Sites shared by similar elements, compared by pymatgen's matcher for disordered structures."""
    from pymatgen.analysis.structure_matcher import OrderDisorderElementComparator, StructureMatcher

    def disordered(c: Crystal):
        structure, merge = to_structure(c), shared_sites(frozenset(c.atomic_numbers.tolist()))
        for first in set(merge.values()):
            members = {z: (c.atomic_numbers == z).sum() for z, stands in merge.items() if stands == first}
            share = {symbol(z): n / sum(members.values()) for z, n in members.items()}
            structure.replace_species(dict.fromkeys(share, share))
        return structure

    table = real_crystals.filter(pc.less(real_crystals["n_atoms"], 13))
    crystals = [
        c for c in crystals_from_table(table.slice(0, 6000))[0] if c is not None and disordered_parent(c) is not None
    ]
    by_formula: dict[str, list[Crystal]] = {}
    for c in crystals:
        by_formula.setdefault(c.formula, []).append(c)
    pairs = [pair for same in by_formula.values() for pair in combinations(same, 2)][:60]
    matcher = StructureMatcher(comparator=OrderDisorderElementComparator())
    expected = [bool(matcher.fit(disordered(a), disordered(b))) for a, b in pairs]
    parents = [(disordered_parent(a), disordered_parent(b)) for a, b in pairs]
    found = [same_structure(reduced_structure(a), reduced_structure(b)) for a, b in parents]
    assert 3 < sum(expected) < len(pairs) - 3
    assert found == expected


def test_similar_elements_are_of_like_size_and_electronegativity():
    numbers = ATOMIC_NUMBERS
    alike, unlike = (("Co", "Ni"), ("Sr", "Ba"), ("O", "F")), (("Sr", "Ti"), ("Na", "Cl"), ("Ar", "Cl"))
    assert all(similar(numbers[a], numbers[b]) for a, b in alike)
    assert not any(similar(numbers[a], numbers[b]) for a, b in unlike)  # strontium 2.00, titanium 1.40 Å
    # By a chain: manganese to nickel, whatever they are to each other.
    merged = shared_sites(frozenset(numbers[x] for x in ("Fe", "Ni", "O", "Mn")))
    assert set(merged) == {numbers[x] for x in ("Fe", "Ni", "Mn")}
    assert len(set(merged.values())) == 1


def test_a_substitution_names_the_likeliest_donor_and_pymatgens_probability(tmp_path):
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    entries = {
        "far": (perovskite("La", "Fe", "O", 3.9), "pretraining"),
        "near": (perovskite("Ba", "Ti", "O", 4.0, corner="b"), "pretraining"),
        "turned": (perovskite("Ti", "Ba", "N", 4.0), "pretraining"),
    }
    known = Known.from_reference(write_reference(tmp_path / "r.parquet", entries))
    row, ordered, argon = novelty(
        crystal_table(
            [perovskite("Sr", "Ti", "O", 3.9), perovskite("Ca", "Zr", "O", 4.1), perovskite("Ar", "Ti", "O", 4.0)]
        ),
        known,
    ).to_pylist()
    assert (row["known_level"], row["known_partner"], row["known_exchange"]) == ("substitution", "near", "Ba → Sr")
    model = SubstitutionProbability()
    assert row["known_exchange_likelihood"] == pytest.approx(model.cond_prob("Sr2+", "Ba2+"))
    assert set(ordered["known_exchange"].split(", ")) == {"Ba → Ca", "Ti → Zr"}
    expected = model.cond_prob("Ca2+", "Ba2+") * model.cond_prob("Zr4+", "Ti4+")
    assert ordered["known_exchange_likelihood"] == pytest.approx(expected)
    assert (argon["known_level"], argon["known_exchange_likelihood"]) == ("substitution", None)


def test_donors_are_those_of_fewest_exchanges_with_balanced_charges(tmp_path):
    entries = {
        "three": (perovskite("Ca", "Mn", "F", 4.0), "pretraining"),
        "two": (perovskite("Rb", "Pd", "F", 4.3), "pretraining"),
        "one": (perovskite("K", "Mg", "Cl", 5.0), "pretraining"),
        "alloy": (caesium_chloride("Ni", "In", 3.1), "pretraining"),
    }
    known = Known.from_reference(write_reference(tmp_path / "r.parquet", entries))
    rows = novelty(
        crystal_table(
            [perovskite("K", "Mg", "Br", 5.3), perovskite("Rb", "Hf", "F", 4.3), caesium_chloride("Ni", "Sn", 3.1)]
        ),
        known,
    ).to_pylist()
    assert [row["known_partner"] for row in rows] == ["one", "two", "alloy"]
    assert [row["known_exchange"] for row in rows] == ["Cl → Br", "Pd → Hf", "In → Sn"]
    # Hafnium is not seen with the charge 2+ that balances, and metals have no charges.
    assert rows[0]["known_exchange_likelihood"] > 0.01
    assert [row["known_exchange_likelihood"] for row in rows[1:]] == [None, None]


def test_a_donor_must_have_the_coordinates_too(tmp_path):
    def general(a: str, x: str, seed: int) -> Crystal:  # without symmetry, at random
        coords = np.random.default_rng(seed).uniform(size=(4, 3))
        return crystal(f"{a} {a} {x} {x}", coords.tolist(), np.diag([4.0, 5.0, 6.0]) + 0.3 * np.tri(3, k=-1))

    known = Known.from_reference(write_reference(tmp_path / "r.parquet", {"known": (general("Na", "Cl", 5), "pretraining")}))
    same, other = novelty(crystal_table([general("K", "Br", 5), general("K", "Br", 6)]), known).to_pylist()
    assert (same["known_level"], same["known_exchange_matches"]) == ("substitution", True)
    assert (other["known_level"], other["known_exchange_matches"]) == ("substitution", False)


def test_both_hands_of_a_crystal_stand_on_one_rung(known, tmp_path):
    from pymatgen.core import Lattice, Structure

    quartz = Structure.from_spacegroup(
        "P3_221", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.47, 0, 2 / 3], [0.41, 0.27, 0.786]]
    )
    left = Crystal(np.array(quartz.atomic_numbers), quartz.frac_coords, quartz.lattice.matrix)
    right = Crystal(left.atomic_numbers, -left.frac_coords, left.lattice)
    germania = [Crystal(np.where(c.atomic_numbers == 14, 32, 8), c.frac_coords, c.lattice) for c in (left, right)]
    both = Known.from_reference(write_reference(tmp_path / "r.parquet", {"quartz": (left, "pretraining")}))
    first, second = novelty(crystal_table(germania), both).to_pylist()
    assert {first["space_group_001"], second["space_group_001"]} == {152, 154}
    assert first["known_level"] == second["known_level"] == "substitution"
    assert first["known_exchange_matches"] and second["known_exchange_matches"]  # noqa: PT018
    assert second["duplicate_of"] == "c0"


def test_ids_that_occur_twice_are_refused(known):
    with pytest.raises(InputError, match="'a'"):
        run_novelty(crystal_table([rock_salt("K", "Br", 6.6)] * 2, ["a", "a"]), known)


def test_symmetry_is_looked_for_at_two_tolerances(known):
    cubic = perovskite("Sr", "Ti", "O", 3.9)
    moved = Crystal(
        cubic.atomic_numbers, cubic.frac_coords + np.eye(5, 3, -1) * 0.05 / 3.9 * [[0], [1], [0], [0], [0]], cubic.lattice
    )
    rows = novelty(crystal_table([cubic, moved, rock_salt("Na", "Cl")]), known).to_pylist()
    assert [(row["space_group_001"], row["space_group_01"]) for row in rows] == [(221, 221), (99, 221), (225, 225)]


def copper_gold(a: str, x: str) -> Crystal:
    """AX3 of the Cu3Au kind, a prototype that the example reference lacks."""
    return crystal(f"{a} {x} {x} {x}", [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], np.eye(3) * 3.9)


def test_rows_that_failed_keep_their_place_and_status(known):
    crystals = [None, rock_salt("Na", "Cl"), rock_salt("Na", "Cl"), rock_salt("Na", "Cl")]
    table = novelty(crystal_table(crystals, statuses=["no_crystal", "exploded", "ok", "ok"]), known)
    assert table.schema.names == [column.name for column in NOVELTY]
    assert table.column("id").to_pylist() == ["c0", "c1", "c2", "c3"]
    assert table.column("status").to_pylist() == ["no_crystal", "exploded", "ok", "ok"]
    # The failed row is not a first occurrence.
    assert table.column("unique").to_pylist() == [None, None, True, False]
    assert table.column("novel").to_pylist() == [None, None, False, False]


def test_a_crystal_that_the_matcher_cannot_handle_gets_a_status(known, monkeypatch):
    from pymatgen.core import Structure

    original = Structure.get_primitive_structure

    def fail(self, *args, **kwargs):
        if "Br" in self.composition:
            raise ValueError("no primitive cell")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Structure, "get_primitive_structure", fail)
    with pytest.raises(MatchError, match="no primitive cell"):
        reduced_structure(rock_salt("Na", "Br"))
    table = novelty(crystal_table([rock_salt("Na", "Br"), rock_salt("Na", "Cl")]), known)
    assert table.column("status").to_pylist() == ["match_failed", "ok"]
    assert table.column("novel").to_pylist() == [None, False]


def crystal_prototype(c: Crystal) -> Prototype:
    sites = symmetrize(c)
    return prototype(sites.space_group, sites.wyckoff, sites.elements)


def test_prototype_does_not_depend_on_origin_or_cell():
    cases = [perovskite("Sr", "Ti", "O"), zincblende("Zn", "S"), fluorite("Ca", "F"), copper_gold("Al", "Au")]
    for c in cases:
        prototypes = {crystal_prototype(disguised(c, seed)) for seed in range(6)}
        assert len(prototypes) == 1
    assert crystal_prototype(rock_salt("Na", "Cl")) != crystal_prototype(zincblende("Na", "Cl"))
    corners = [crystal_prototype(perovskite("Sr", "Ti", "O", corner=corner)) for corner in "ab"]
    assert corners[0] == corners[1] == crystal_prototype(perovskite("Ba", "Zr", "S"))


def test_kinds_and_prototypes_are_the_least_of_all_permutations():
    """Of few letters only the distinct images are tried, which must miss none."""
    random = np.random.default_rng(7)
    for g in (2, 16, 47, 62, 123, 225):
        permutations = letter_permutations(g)
        for n in (1, 2, 4):
            letters, elements = random.integers(1, len(permutations[0]), n).tolist(), random.choice([8, 22, 38], n).tolist()
            images = [[(z, p[w]) for z, w in zip(elements, letters, strict=True)] for p in permutations]
            least = min(
                [tuple((z, tuple(sorted(w for y, w in i if y == z))) for z in sorted(set(elements))) for i in images]
            )
            assert kind(g, letters, elements) == (g, least)
            groups = [tuple(sorted(tuple(sorted(w for y, w in i if y == z)) for z in set(elements))) for i in images]
            assert prototype(g, letters, elements) == (g, min(groups))


def test_prototype_of_real_crystals_does_not_depend_on_origin_or_cell(real_crystals):
    table = real_crystals.take(np.random.default_rng(5).choice(real_crystals.num_rows, 60, replace=False))
    for i, c in enumerate(crystals_from_table(table)[0]):
        if c is None or len(c) > 20:
            continue
        first, second = symmetrize(c), symmetrize(disguised(c, i))
        if first.space_group == second.space_group:  # at the tolerance's edge the group itself may differ
            assert crystal_prototype(c) == crystal_prototype(disguised(c, i)), c.formula


@pytest.mark.parametrize(
    ("g", "order"),
    # Orders by hand: P-1 has the affine group over the field of two elements in three dimensions acting on its
    # eight centres; Pmmm the 48 symmetries of a cube on its corners; F-43m a dihedral group on four sites.
    [(1, 1), (2, 1344), (47, 48), (216, 8), (221, 2), (225, 2), (227, 2)],
)
def test_number_of_equivalent_descriptions(g, order):
    assert len(letter_permutations(g)) == order


def test_letter_permutations_keep_multiplicity_and_form_a_group():
    table = wyckoff_table()
    for g in (2, 14, 62, 139, 166, 194, 216, 225):
        found = set(letter_permutations(g))
        for images in found:
            assert sorted(images) == list(range(len(images)))
            assert all(table.multiplicity(g, w) == table.multiplicity(g, images[w]) for w in range(1, len(images)))
        sample = sorted(found)[:12]
        assert all(tuple(a[w] for w in b) in found for a in sample for b in sample)


def test_rock_salt_and_its_antitype_are_one_prototype():
    assert prototype(225, [1, 2], [11, 17]) == prototype(225, [1, 2], [17, 11]) == prototype(225, [2, 1], [3, 9])
    # Zinc blende takes neighbouring sites of F-43m, rock salt's arrangement in it opposite ones.
    assert prototype(216, [1, 3], [30, 16]) == prototype(216, [4, 1], [30, 16]) != prototype(216, [1, 2], [30, 16])


def run(*arguments: object):
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def files(tmp_path):
    write_table(tmp_path / "a.parquet", crystal_table([rock_salt("Na", "Cl"), None, rock_salt("K", "Br", 6.6)]), {})
    write_table(tmp_path / "b.parquet", crystal_table([rock_salt("Na", "Cl", 5.7)], ids=["d0"]), {})
    write_reference(tmp_path / "reference.parquet", salt_reference())
    return tmp_path


def test_command_joins_files_and_repeats_its_bytes(files):
    inputs = ["novelty", files / "a.parquet", files / "b.parquet", "--reference", files / "reference.parquet", "--out"]
    result = run(*inputs, files / "n1.parquet", "--json")
    summary = json.loads(result.output)
    assert (summary["n"], summary["novel"], summary["rediscovered"], summary["unique"]) == (4, 1, 1, 2)
    run(*inputs, files / "n2.parquet")
    assert (files / "n1.parquet").read_bytes() == (files / "n2.parquet").read_bytes()
    table = read_table(files / "n1.parquet", NOVELTY)
    assert table.column("id").to_pylist() == ["c0", "c1", "c2", "d0"]
    assert table.column("duplicate_of").to_pylist() == [None, None, None, "c0"]
    assert set(read_provenance(files / "n1.parquet")["inputs"]) == {"a.parquet", "b.parquet", "reference.parquet"}


def test_command_refuses_a_reference_that_cannot_tell_what_is_new(files):
    table = read_table(files / "reference.parquet")
    write_table(files / "no_role.parquet", table.drop_columns(["role"]), {})
    write_table(files / "hull.parquet", table.filter(pc.equal(table["role"], "hull_only")), {})
    for name, words in (
        ("no_role", "no column 'role'"),
        ("hull", "no rows of role 'pretraining'"),
        ("none", "does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            run("novelty", files / "a.parquet", "--reference", files / f"{name}.parquet", "--out", files / "n.parquet")
        assert not (files / "n.parquet").exists()


def test_structures_are_components_of_all_matches_in_any_order():
    # a matches b, and b matches c, but a does not match c; d matches none
    places = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 9.0}
    for order in permutations(places):
        distinct: Distinct[str, float] = Distinct(lambda x, y: abs(x - y) <= 1.0)
        for name in order:
            distinct.add(name, ((11, 1),), places[name])
        assert sorted(map(sorted, distinct.groups())) == [["a", "b", "c"], ["d"]]


def test_unique_does_not_depend_on_the_order_of_rows(known):
    table = crystal_table([rock_salt("K", "Br", a) for a in (6.5, 6.6, 6.7)] + [rock_salt("Na", "I", 6.4)])
    for order in permutations(range(4)):
        found = novelty(table.take(list(order)), known).to_pylist()
        assert {row["id"]: row["unique"] for row in found} == {"c0": True, "c1": False, "c2": False, "c3": True}
        assert {row["id"]: row["duplicate_of"] for row in found} == {"c0": None, "c1": "c0", "c2": "c0", "c3": None}


def test_rows_of_one_id_are_rows_all_the_same(known):
    table = crystal_table([rock_salt("K", "Br", 6.5), rock_salt("K", "Br", 6.6)])
    table = table.set_column(table.column_names.index("id"), "id", pa.array(["a", "a"]))
    assert [(row["unique"], row["duplicate_of"]) for row in novelty(table, known).to_pylist()] == [
        (True, None),
        (False, "a"),
    ]
