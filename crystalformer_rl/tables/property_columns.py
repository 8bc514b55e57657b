"""Columns of predicted properties."""

from __future__ import annotations

import pyarrow as pa

from crystalformer_rl.tables.column import FLOAT, Column
from crystalformer_rl.tables.crystal_columns import ID, STATUS

SOFT_MODE = Column(
    "soft_mode",
    pa.string(),
    "",
    "family known for a soft mode, whose eps_total the models underestimate many times, such as perovskite titanate; else null",
)

IN_TRAINING = Column(
    "in_training",
    pa.bool_(),
    "",
    "whether the property models learned the gap or a dielectric constant of a crystal of this reduced formula, in whatever structure",
)

PROPERTIES = (
    ID,
    *(
        Column(name + suffix, FLOAT, unit, meaning + words)
        for name, unit, meaning in (
            ("band_gap", "eV", "PBE band gap"),
            ("eps_electronic", "", "electronic dielectric constant (trace/3), null for a metal"),
            ("eps_total", "", "total dielectric constant (trace/3), null for a metal"),
            ("fom", "eV", "figure of merit, eps_electronic · band_gap, 0 for a metal"),
            ("fom_total", "eV", "figure of merit with the ions' screening, eps_total · band_gap, 0 for a metal"),
        )
        for suffix, words in (("", ", predicted"), ("_std", ", standard deviation of the prediction"))
    ),
    Column("insulator_probability", FLOAT, "", "probability that the gap is not zero"),
    Column(
        "applicability", FLOAT, "", "distance to the dielectric training data; up to about 1 inside, larger is extrapolation"
    ),
    *(
        Column(
            f"eps_electronic_{k}",
            FLOAT,
            "",
            f"{which} principal value of the electronic dielectric tensor, null for a metal, predicted",
        )
        for k, which in ((1, "smallest"), (2, "middle"), (3, "largest"))
    ),
    SOFT_MODE,
    IN_TRAINING,
    STATUS,
)


PREDICTED = tuple(column for column in PROPERTIES if column not in (ID, SOFT_MODE, IN_TRAINING, STATUS))
