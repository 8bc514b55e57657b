"""Elements, lattices and Wyckoff tables against pymatgen, PyXtal and the laws of symmetry."""

from __future__ import annotations

import runpy
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystalformer_rl.crystal.distances import shortest_distance
from crystalformer_rl.crystal.elements import SYMBOLS, parse_formula, reduced_formula
from crystalformer_rl.crystal.lattice import constrain_lattice, free_lattice_parameters, lattice_matrix, lattice_parameters
from crystalformer_rl.crystal.structure import Crystal, crystal_status
from crystalformer_rl.crystal.tokens import orbit, primitive_vectors
from crystalformer_rl.crystal.wyckoff import centring_vectors, wyckoff_table
from crystalformer_rl.errors import InputError


@given(st.dictionaries(st.integers(1, 103), st.integers(1, 12), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_reduced_formula_is_pymatgens(counts):
    from pymatgen.core import Composition

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity
        expected = Composition({SYMBOLS[z - 1]: n for z, n in counts.items()}).reduced_composition
    ours = reduced_formula([z for z, n in counts.items() for _ in range(n)])
    assert Composition(ours).reduced_composition == expected
    assert parse_formula(ours).keys() == counts.keys()


@pytest.mark.parametrize("formula", ["", "Xx2", "NaCl2.5", "na", "Na0Cl", "(NaCl"])
def test_a_wrong_formula_is_named(formula):
    with pytest.raises(InputError, match=r"formula|element|zero"):
        parse_formula(formula)


def test_wyckoff_table_is_what_the_script_makes(root):
    pytest.importorskip("pyxtal")
    made = runpy.run_path(str(root / "scripts" / "make_wyckoff_table.py"))["make_table"]()
    with np.load(root / "crystalformer_rl" / "crystal" / "wyckoff.npz") as stored:
        assert set(stored.files) == set(made)
        for name in stored.files:
            np.testing.assert_array_equal(stored[name], made[name])


def test_orbits_are_closed_under_the_space_group():
    """The atoms of a position, moved by any operation of the group, are the same atoms."""
    table, random = wyckoff_table(), np.random.default_rng(0)
    for g in random.choice(np.arange(1, 231), 60, replace=False):
        general = table.operations(g, table.n_letters(g))
        for w in range(1, table.n_letters(g) + 1):
            first = table.operations(g, w)[0]
            x = first[:, :3] @ random.random(3) + first[:, 3]
            np.testing.assert_allclose(first[:, :3] @ x + first[:, 3], x, atol=1e-9)
            points = orbit(g, w, x)
            images = (np.einsum("mij,j->mi", general[:, :, :3], x) + general[:, :, 3]) % 1.0
            delta = images[:, None] - points[None]
            distance = np.abs(delta - np.rint(delta)).max(-1)
            assert distance.min(1).max() < 1e-9
            assert distance.min(0).max() < 1e-9
            assert len(points) == table.multiplicity(g, w)


def test_primitive_vectors_span_the_centred_lattice():
    for g in range(1, 231):
        inverse = np.linalg.inv(primitive_vectors(g))
        coordinates = np.vstack([np.eye(3), centring_vectors(g)]) @ inverse
        np.testing.assert_allclose(coordinates, np.rint(coordinates), atol=1e-9)
        assert round(1 / abs(np.linalg.det(primitive_vectors(g)))) == len(centring_vectors(g))


@given(
    st.integers(1, 230),
    st.lists(st.floats(2, 20), min_size=3, max_size=3),
    st.lists(st.floats(60, 110), min_size=3, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_lattice_and_parameters_are_inverse(g, lengths, angles):
    parameters = constrain_lattice(g, np.array([*lengths, *angles]))
    np.testing.assert_allclose(lattice_parameters(lattice_matrix(parameters)), parameters, rtol=1e-9)
    changed = constrain_lattice(g, parameters + 0.1)
    assert np.count_nonzero(changed != parameters) >= free_lattice_parameters(g).sum()


def test_shortest_distance_is_pymatgens():
    from pymatgen.core import Lattice, Structure

    random = np.random.default_rng(1)
    for _ in range(20):
        lattice = Lattice.from_parameters(*random.uniform(3, 9, 3), *random.uniform(65, 115, 3))
        coords = random.random((4, 3))
        structure = Structure(lattice, ["Na"] * 4, coords)
        expected = min(n.nn_distance for site in structure for n in structure.get_neighbors(site, 10))
        ours = shortest_distance(Crystal(np.full(4, 11), coords, lattice.matrix))
        assert ours == pytest.approx(expected, abs=1e-9)


def test_what_is_no_crystal_is_named():
    good = np.eye(3) * 4
    coords = np.zeros((1, 3))
    assert crystal_status(Crystal(np.array([11]), coords, good)) == "ok"
    assert crystal_status(Crystal(np.array([], int), np.zeros((0, 3)), good)) == "empty_crystal"
    assert crystal_status(Crystal(np.array([119]), coords, good)) == "unknown_element"
    assert crystal_status(Crystal(np.array([11]), coords, good * 0)) == "bad_lattice"
    assert crystal_status(Crystal(np.array([11]), coords * np.nan, good)) == "bad_coordinates"


def test_elements_that_are_alike_have_like_features():
    from crystalformer_rl.crystal.elements import atomic_number, element_features

    features = element_features()
    assert np.isfinite(features).all()
    assert not features[0].any()
    for one, like, unlike in (
        ("Na", "K", "Cl"),
        ("Fe", "Co", "O"),
        ("La", "Ce", "Ba"),
        ("F", "Cl", "Li"),
        ("Ar", "Kr", "K"),
    ):
        a, b, c = (features[atomic_number(name)] for name in (one, like, unlike))
        assert np.linalg.norm(a - b) < np.linalg.norm(a - c)
