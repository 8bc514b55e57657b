"""CIFs made at random from crystals whose right reading is known: never a wrong `ok`."""

from __future__ import annotations

import pytest
from cif_examples import N_SETTINGS, SYMMETRIES, Example, Writing, check, cif, example, names
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from crystalformer_rl.crystal.encode import EncodeError, symmetrize
from crystalformer_rl.crystal.tokens import decode
from crystalformer_rl.reading.cif_crystals import crystals_of_cif

writings = st.builds(
    Writing,
    symmetry=st.sampled_from(SYMMETRIES),
    digits=st.integers(3, 6),
    formula=st.sampled_from(("none", "right", "wrong")),
    units=st.sampled_from(("none", "right", "wrong")),
    occupancy=st.sampled_from((None, None, 1.0, 0.5, 0.98)),
    multiplicities=st.booleans(),
    capitals=st.booleans(),
    dots=st.booleans(),
    decimals=st.booleans(),
    uncertainties=st.booleans(),
)
crystals = st.builds(
    example, st.integers(1, N_SETTINGS), st.integers(1, 3), st.booleans(), st.integers(0, 2**31)
)  # fmt: skip


def checked(crystal: Example | None, how: Writing) -> str:
    """`check` of a crystal that could be made and has a symbol where that is to be written."""
    assume(crystal is not None)
    assert crystal is not None
    assume(names(crystal.hall)[2] or "symbol" not in how.symmetry)
    return check(crystal, how)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(crystals, writings)
def test_random_cifs_are_read_right_or_refused(crystal: Example | None, how: Writing) -> None:
    checked(crystal, how)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(crystals, writings)
def test_many_random_cifs_are_read_right_or_refused(crystal: Example | None, how: Writing) -> None:
    checked(crystal, how)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(crystals)
def test_our_own_operations_make_the_same_crystal(crystal: Example | None) -> None:
    """What is read in any setting, encoded and decoded by our tables, has the same atoms a volume, and at least the group written."""
    assume(crystal is not None)
    assert crystal is not None
    (row,) = crystals_of_cif(cif(crystal, Writing(digits=6)), "x")
    assert row.crystal is not None
    try:
        sites = symmetrize(row.crystal)
    except EncodeError:
        assume(False)
    again = decode(sites)
    assert len(again) / again.volume == pytest.approx(len(row.crystal) / row.crystal.volume, rel=1e-3)
    assert again.formula == row.crystal.formula


@pytest.mark.parametrize("hall", range(1, N_SETTINGS + 1, 7))
def test_every_way_to_write_a_setting(hall: int) -> None:
    """The same crystal by operations, by its Hall symbol and by its full symbol is one crystal."""
    made = next(found for found in (example(hall, 2, False, seed) for seed in range(50)) if found is not None)
    for symmetry in ("operations", "hall", "symbol"):
        if symmetry != "symbol" or names(hall)[2]:
            assert check(made, Writing(symmetry=symmetry)) == "ok"
