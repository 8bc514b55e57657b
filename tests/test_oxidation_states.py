"""Oxidation states of compositions of any size, and the MP2020 corrections of compounds with two anions."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.compatibility import MaterialsProject2020Compatibility
from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS, electronegativity_rank
from crystalformer_rl.reading.entries import DftEntry
from crystalformer_rl.reference.corrections import MP2020, NoCorrectionError
from crystalformer_rl.reference.given import given_reference
from crystalformer_rl.reference.oxidation_states import may_be_second_anion, oxidation_states

PUBLISHED = {
    "O": -0.687, "S": -0.503, "F": -0.462, "Cl": -0.614, "Br": -0.534, "I": -0.379, "N": -0.361, "Se": -0.472, "Si": 0.071,
    "Sb": -0.192, "Te": -0.422, "H": -0.179,
}  # fmt: skip
"""eV an anion; oxygen as oxide."""


def counts_of(formula: str) -> dict[int, int]:
    counts = {ATOMIC_NUMBERS[symbol]: int(n) for symbol, n in Composition(formula).reduced_composition.as_dict().items()}
    return {z: counts[z] for z in sorted(counts, key=electronegativity_rank)}


def composition_of(counts: Mapping[int, int]) -> Composition:
    return Composition({SYMBOLS[z - 1]: n for z, n in counts.items()})


@pytest.fixture(scope="module")
def two_anions(embedded: Path) -> list[dict[int, int]]:
    """Compositions of the reference with two elements that the scheme corrects."""
    corrected = {ATOMIC_NUMBERS[symbol] for symbol in PUBLISHED}
    formulas = sorted({f for f in pq.read_table(embedded, columns=["formula"])["formula"].to_pylist() if f})
    found = []
    for k in np.random.default_rng(3).permutation(len(formulas)):
        counts = counts_of(formulas[k])
        if len(counts) > 2 and len(corrected & counts.keys()) > 1:
            found.append(counts)
        if len(found) == 900:
            break
    return found


def pymatgen_states(counts: Mapping[int, int]) -> dict[str, float]:
    return dict((composition_of(counts).oxi_state_guesses(max_sites=-20) or ({},))[0])


def test_states_are_those_of_pymatgen(two_anions: list[dict[int, int]]) -> None:
    small = [counts for counts in two_anions if sum(counts.values()) <= 20]
    assert len(small) > 400
    for counts in small:
        assert oxidation_states(counts) == pytest.approx(pymatgen_states(counts)), composition_of(counts)


def test_corrections_of_two_anions_are_those_of_pymatgen(two_anions: list[dict[int, int]]) -> None:
    scheme, theirs, compared = MP2020(), MaterialsProject2020Compatibility(check_potcar=False), 0
    for counts in two_anions:
        if sum(counts.values()) > 20 or not pymatgen_states(counts):
            continue
        hubbards = scheme.hubbards(counts)
        entry = ComputedEntry(composition_of(counts), -1.0, parameters={"hubbards": hubbards, "run_type": "GGA"})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = sum(part.value for part in theirs.get_adjustments(entry)) / entry.composition.num_atoms
        assert scheme.correction(counts) == pytest.approx(expected, abs=1e-12), entry.composition
        compared += 1
    assert compared > 350


def test_the_number_of_cells_does_not_matter() -> None:
    scheme = MP2020()
    for formula in ("BiOCl", "Ca5P3O12F", "Bi4O5Br2"):
        once = counts_of(formula)
        assert scheme.correction({z: 7 * n for z, n in once.items()}) == pytest.approx(scheme.correction(once))


@pytest.mark.parametrize(
    ("formula", "anions"),
    [
        # more than 20 atoms in the formula: pymatgen's guess gives up, and one anion of two lost its correction
        ("Ca5P3O12F", {"O": 12, "F": 1}),
        ("Pb5V3O12Cl", {"O": 12, "Cl": 1}),
        ("Bi24O31Br10", {"O": 31, "Br": 10}),
        ("Bi12O17Cl2", {"O": 17, "Cl": 2}),
        ("Sb8O11I2", {"O": 11, "I": 2}),
        ("La10Se14O", {"O": 1, "Se": 14}),
        ("Na4Al3Si3O12I", {"O": 12, "I": 1}),
        ("Ca6Al7O16F", {"O": 16, "F": 1}),
        # cations there as elsewhere: of iodine, hydrogen, nitrogen, tellurium, silicon
        ("CaI2O6", {"O": 6}),
        ("Al2Si2O9H4", {"O": 9}),
        ("Mg3Si4O12H2", {"O": 12}),
        ("Ni2Te3O8", {"O": 8}),
    ],
)
def test_large_compounds_keep_both_corrections(formula: str, anions: dict[str, int]) -> None:
    counts = counts_of(formula)
    expected = sum(n * PUBLISHED[symbol] for symbol, n in anions.items())
    scheme = MP2020()
    metals = {"V": -1.7, "Ni": -2.541}  # eV a metal with a Hubbard U beside oxygen
    expected += sum(
        counts[ATOMIC_NUMBERS[symbol]] * value for symbol, value in metals.items() if ATOMIC_NUMBERS[symbol] in counts
    )
    assert scheme.correction(counts) == pytest.approx(expected / sum(counts.values()), abs=1e-9)


@pytest.mark.parametrize(
    "formula", ["KClO4", "Sr(IO3)2", "SrI2O7", "HIO4", "CsSeO4", "LiH2ClO5", "LiMgAl5Si2O12", "MgSi3HO12", "SbClF10"]
)
def test_cations_beside_oxygen_are_not_corrected(formula: str) -> None:
    counts = counts_of(formula)
    first = SYMBOLS[list(counts)[-1] - 1]
    expected = PUBLISHED[first] * counts[ATOMIC_NUMBERS[first]] / sum(counts.values())
    assert MP2020().correction(counts) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("formula", ["CePtSi", "Pr6Si4Ni7", "LaSbRh", "Mn2Co2SiGe", "NbSiRh", "Mg64Si31Bi"])
def test_alloys_have_no_second_anion(formula: str) -> None:
    counts = counts_of(formula)
    assert not any(may_be_second_anion(z, counts) for z in counts if SYMBOLS[z - 1] in PUBLISHED)
    MP2020().correction(counts)  # whatever the scheme says of the most electronegative element


@pytest.mark.parametrize(
    ("formula", "which"),
    [("ZnClO", "Cl"), ("PdH", "H"), ("PbClO", "Cl"), ("LuHCl", "H"), ("Th2NCl2", "N"), ("Ca2Br2F", "Br"), ("SrIO", "I"), ("ZrSiTe", "Si"),
     ("CsTeAu", "Te"), ("Th4Se3O4", "Se")],
)  # fmt: skip
def test_where_nothing_says_whether_a_second_anion_is_one_there_is_no_correction(formula: str, which: str) -> None:
    counts = counts_of(formula)
    assert not oxidation_states(counts)
    with pytest.raises(NoCorrectionError, match=f"whether {which} is an anion is not known"):
        MP2020().correction(counts)


def test_states_that_come_with_an_entry_decide() -> None:
    scheme, counts = MP2020(), counts_of("PbClO")
    both = scheme.correction(counts, hints={"oxidation_states": {"Pb": 3.0, "Cl": -1.0, "O": -2.0}})
    assert both == pytest.approx((PUBLISHED["O"] + PUBLISHED["Cl"]) / 3)
    # empty ones are those that nobody found, and are looked for again
    apatite = counts_of("Ca5P3O12F")
    assert scheme.correction(apatite, hints={"oxidation_states": {}}) == scheme.correction(apatite)
    with pytest.raises(NoCorrectionError):
        scheme.correction(counts, hints={"oxidation_states": {}})


def test_a_row_without_correction_says_so() -> None:
    entries = [
        DftEntry(formula, "ok", counts_of(formula), energy, run_type="GGA")
        for formula, energy in {"Pb": -3.7, "Cl": -1.8, "O": -4.9, "PbClO": -4.5, "PbCl2": -3.6}.items()
    ]
    table, _ = given_reference(entries, digest="00", source="here")
    assert dict(zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True))["PbClO"] == "no_correction"
    assert set(table["status"].to_pylist()) == {"ok", "no_correction"}


def test_a_large_composition_takes_no_time() -> None:
    started = time.perf_counter()
    states = oxidation_states(counts_of("Mn101Fe97Cr83Sb41O611F3Cl29"))
    assert time.perf_counter() - started < 5
    assert sum(
        states[symbol] * n for symbol, n in {"Mn": 101, "Fe": 97, "Cr": 83, "Sb": 41, "O": 611, "F": 3, "Cl": 29}.items()
    ) == (pytest.approx(0, abs=1e-6))


def test_what_cannot_cancel_has_no_states() -> None:
    assert oxidation_states(counts_of("NaCl2")) == {}
    assert oxidation_states(counts_of("HeF2")) == {}
    assert oxidation_states(counts_of("NaCl")) == {"Na": 1.0, "Cl": -1.0}
    assert oxidation_states(counts_of("Fe3O4")) == pytest.approx({"Fe": 8 / 3, "O": -2.0})
