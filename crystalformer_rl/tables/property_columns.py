"""Columns of predicted properties."""

from __future__ import annotations

from crystalformer_rl.tables.column import FLOAT, Column
from crystalformer_rl.tables.crystal_columns import ID, STATUS

PROPERTIES = (
    ID,
    *(
        Column(name + suffix, FLOAT, unit, meaning + words)
        for name, unit, meaning in (
            ("band_gap", "eV", "PBE band gap"),
            ("eps_electronic", "", "electronic dielectric constant (trace/3)"),
            ("eps_total", "", "total dielectric constant (trace/3)"),
            ("fom", "eV", "figure of merit, eps_electronic · band_gap"),
            ("fom_total", "eV", "figure of merit with the ions' screening, eps_total · band_gap"),
        )
        for suffix, words in (("", ", predicted"), ("_std", ", standard deviation of the prediction"))
    ),
    Column("insulator_probability", FLOAT, "", "probability that the gap is not zero"),
    Column(
        "applicability", FLOAT, "", "distance to the dielectric training data; up to about 1 inside, larger is extrapolation"
    ),
    STATUS,
)


PREDICTED = tuple(column for column in PROPERTIES if column not in (ID, STATUS))
