"""Equivalent descriptions of a crystal: other origins and axes of its space group."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from policy_examples import examples, rock_salt
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from crystalformer_rl.crystal.descriptions import descriptions, standard_description, transformed
from crystalformer_rl.crystal.encode import encode
from crystalformer_rl.crystal.normalizer import normalizer_maps
from crystalformer_rl.crystal.structure import Crystal, crystals_from_table
from crystalformer_rl.crystal.tokens import Sites, decode, sort_sites
from crystalformer_rl.crystal.wyckoff import wyckoff_table


def as_structure(crystal: Crystal) -> Structure:
    return Structure(crystal.lattice, crystal.atomic_numbers, crystal.frac_coords)


# Indices of the space group in the part of its normalizer that `normalizer_maps` covers, from the International Tables A,
# table 15.2 (Euclidean normalizers; for orthorhombic groups the enhanced symmetry of a = b = c).
@pytest.mark.parametrize(
    ("g", "index"),
    [(1, 1), (2, 8), (14, 8), (47, 48), (62, 8), (139, 2), (166, 2), (194, 2), (221, 2), (225, 2), (227, 2), (229, 1)],
)
def test_number_of_maps(g, index):
    found = normalizer_maps(g)
    assert len(found) == index
    assert np.array_equal(found[0].rotation, np.eye(3))
    assert not found[0].shift.any()


@pytest.mark.parametrize("g", [4, 19, 47, 76, 92, 152, 166, 198, 216, 225])
def test_descriptions_are_the_same_crystal(g):
    """Under every map of a group, atoms of two elements on two sites make the same structure."""
    table, random = wyckoff_table(), np.random.default_rng(g)
    letters = [table.n_letters(g), 1 if table.n_letters(g) > 1 else table.n_letters(g)]
    points = []
    for letter in letters:
        first = table.operations(g, letter)[0]
        points.append((first[:, :3] @ random.random(3) + first[:, 3]) % 1)
    lattice = {
        1: [7, 8, 9, 90, 97, 90],
        2: [7, 8, 9, 90, 90, 90],
        3: [7, 7, 9, 90, 90, 90],
        4: [7, 7, 9, 90, 90, 120],
        5: [8, 8, 8, 90, 90, 90],
    }
    system = 1 + sum(g > last for last in (15, 74, 142, 194))
    sites = sort_sites(g, letters, [11, 17], points, lattice[system])
    matcher = StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.1, scale=False, primitive_cell=False)
    for change in normalizer_maps(g):
        image = transformed(sites, change)
        assert image.n_atoms == sites.n_atoms
        assert matcher.fit(as_structure(decode(image)), as_structure(decode(sites)))


def test_no_map_changes_the_hand():
    """Quartz's space group: signed volumes keep their sign."""
    sites = sort_sites(152, [1, 3], [14, 8], [[0.47, 0, 1 / 3], [0.413, 0.267, 0.119]], [4.91, 4.91, 5.4, 90, 90, 120])
    hands = [hand(image) for image in descriptions(sites)]
    np.testing.assert_allclose(hands, hands[0], rtol=1e-6)
    mirrored = sort_sites(154, [1, 3], [14, 8], [[0.47, 0, 2 / 3], [0.413, 0.267, 0.881]], [4.91, 4.91, 5.4, 90, 90, 120])
    assert hand(mirrored) == pytest.approx(-hands[0], rel=1e-6)
    assert abs(hands[0]) > 1


def hand(sites: Sites) -> float:
    """A sum over triples of neighbours that a rotation keeps and a mirror turns round: signed volume times differences of lengths."""
    structure = as_structure(decode(sites))
    total = 0.0
    # About oxygen, on no axis: about silicon the sum would vanish by its two-fold axis.
    for atom in (site for site in structure if site.specie.Z == 8):
        vectors = np.array([n.coords - atom.coords for n in structure.get_neighbors(atom, 4.2)])
        volumes = np.linalg.det(vectors[np.indices((len(vectors),) * 3).reshape(3, -1).T]).reshape((len(vectors),) * 3)
        r = np.linalg.norm(vectors, axis=1)
        a, b, c = r[:, None, None], r[None, :, None], r[None, None, :]
        total += float((volumes * (a - b) * (b - c) * (a - c)).sum())
    return total


@pytest.mark.parametrize("sites", examples())
def test_the_standard_description_does_not_depend_on_the_one_given(sites):
    standard = standard_description(sites)
    for image in descriptions(sites, same_lattice=True):
        again = standard_description(image)
        assert again.fingerprint() == standard.fingerprint()
        np.testing.assert_allclose(again.frac_coords, standard.frac_coords, atol=1e-6)
        np.testing.assert_allclose(again.lattice_parameters, standard.lattice_parameters)


def test_families_share_their_description():
    """Rock salts have the cation at 4a, perovskites the large cation at 1a, whatever the description given."""
    flipped = sort_sites(225, [1, 2], [17, 11], [[0, 0, 0], [0.5, 0.5, 0.5]], [5.64] * 3 + [90] * 3)
    assert standard_description(flipped).elements.tolist() == [11, 17]
    assert standard_description(rock_salt()).elements.tolist() == [11, 17]
    centred = sort_sites(221, [1, 2, 4], [22, 38, 8], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]], [3.9] * 3 + [90] * 3)
    standard = standard_description(centred)
    assert (standard.wyckoff.tolist(), standard.elements.tolist()) == ([1, 2, 3], [38, 22, 8])


def test_published_orbits_up_to_origin_and_axes(shared):
    """The published tokens are a description of the crystal that ours describe, on 99 of 100."""
    stored = np.load(shared / "parity" / "tokens.npz")
    table = pq.read_table(shared / "data" / "structures.parquet")
    place = {name: i for i, name in enumerate(table["material_id"].to_pylist())}
    crystals, _ = crystals_from_table(table.take([place[name] for name in stored["ids"]]))
    same = 0
    rows = zip(encode(crystals), *(stored[name] for name in ("G", "W", "A", "X")), strict=True)
    for (sites, _), g, w, a, x in rows:
        n = int((w > 0).sum())
        if sites.space_group != g:
            continue
        published = sort_sites(int(g), w[:n], a[:n], x[:n].astype(float), sites.lattice_parameters)
        same += sites.fingerprint() in {image.fingerprint() for image in descriptions(published)}
    assert same >= 396
