"""Names of the kinds of compounds whose shares are counted, wherever they are counted."""

from __future__ import annotations

CHEMISTRY_WORDS = {
    "anion": "with an anion",
    "oxide": "oxides",
    "halide": "halides",
    "chalcogenide": "chalcogenides",
    "intermetallic": "intermetallics",
}
"""Columns are NAME_count and NAME_fraction; the words are for tables and sentences."""
CHEMISTRY_MEANINGS = {
    "anion": "crystals that hold N, O, F, S, Cl, Se, Br or I",
    "oxide": "compounds that hold oxygen",
    "halide": "compounds that hold a halogen",
    "chalcogenide": "compounds that hold S, Se or Te",
    "intermetallic": "compounds of metals, B, Si, Ge and Sb alone",
}
