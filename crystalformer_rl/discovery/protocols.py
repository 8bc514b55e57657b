"""S.U.N. (stable, unique, novel) as four publications count it, on the same crystals.

They differ in what is relaxed, in the threshold, in what is one structure, and in what counts as known. What cannot differ here
is the hull and the set of known structures: figures of two protocols compare, those of a publication do not compare with ours.

CrystalFormer-RL (Z. Cao, L. Wang, arXiv 2504.02367): relaxed, at most 0.1 eV/atom above the hull, not in the training set.
MatterGen (C. Zeni et al., Nature 639, 624 (2025)): relaxed, at most 0.1; orderings of one disordered parent are one structure, and
known where the reference knows one of them.
LeMat-GenBench (arXiv 2512.04562): valid crystals alone, charges included; on the hull (S.U.N.), and above it to 0.1 (metastable); known
by any structure of the reference. Its fingerprints of bonds stand aside for StructureMatcher here.
Chemeleon2 (H. Park, A. Walsh, 2025): energies as sampled, without relaxation; on the hull (S.U.N.) and at most 0.1 (metastable, these
included); known by any structure of the reference. Unique and novel are decided on the relaxed crystals here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crystalformer_rl.hull.stability import is_on_hull, is_stable

_Row = Mapping[str, Any]

METASTABLE_BELOW = 0.1
"""eV/atom; the threshold of all four publications, whatever a run calls stable."""


def _at_most(row: _Row, figure: str, above: float) -> bool:
    value = row[figure]
    return value is not None and bool(is_stable(value, above))


def _on_hull(row: _Row, figure: str) -> bool:
    value = row[figure]
    return value is not None and bool(is_on_hull(value))


def _matched(row: _Row) -> bool:
    """Whether any structure of the reference is the same, those that were recovered from energies included."""
    return row["known_level"] == "structure" or row["match_role"] is not None


def _new_structure(row: _Row) -> bool:
    return bool(row["unique"]) and not _matched(row)


def _crystalformer_rl(row: _Row) -> bool:
    return bool(row["unique"] and row["novel"]) and _at_most(row, "e_above_hull", METASTABLE_BELOW)


def _mattergen(row: _Row) -> bool:
    new = row["unique_parent"] and not _matched(row) and row["known_level"] != "ordering"
    return bool(new) and _at_most(row, "e_above_hull", METASTABLE_BELOW)


def _lemat(row: _Row) -> bool:
    return bool(row["valid"] and row["charge_balanced"]) and _new_structure(row)


def _lemat_sun(row: _Row) -> bool:
    return _lemat(row) and _on_hull(row, "e_above_hull")


def _lemat_msun(row: _Row) -> bool:
    return _lemat(row) and _at_most(row, "e_above_hull", METASTABLE_BELOW) and not _on_hull(row, "e_above_hull")


def _chemeleon2_sun(row: _Row) -> bool:
    return _new_structure(row) and _on_hull(row, "e_above_hull_initial")


def _chemeleon2_msun(row: _Row) -> bool:
    return _new_structure(row) and _at_most(row, "e_above_hull_initial", METASTABLE_BELOW)


PROTOCOLS: dict[str, Callable[[_Row], bool]] = {
    "crystalformer_rl_sun": _crystalformer_rl,
    "mattergen_sun": _mattergen,
    "lemat_sun": _lemat_sun,
    "lemat_msun": _lemat_msun,
    "chemeleon2_sun": _chemeleon2_sun,
    "chemeleon2_msun": _chemeleon2_msun,
}
"""Whether a row of EVALUATED counts, by the name of the share in METRICS."""
