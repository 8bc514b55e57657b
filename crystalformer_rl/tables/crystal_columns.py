"""Columns of crystals, of their tokens, and of what a policy samples."""

from __future__ import annotations

import pyarrow as pa

from crystalformer_rl.tables.column import FLOAT, FLOATS, INTEGERS, Column

ID = Column("id", pa.string(), "", "name of the crystal, unique in its table")


STATUS = Column("status", pa.string(), "", "ok, or the named reason why this row has no result")


NOTE = Column(
    "note", pa.string(), "", "what the status leaves unsaid: the site, the file's words; null where nothing is to say"
)


WEIGHT = Column("weight", FLOAT, "", "how much the crystal counts in pretraining; null: 1")


CRYSTALS = (
    ID,
    Column("formula", pa.string(), "", "reduced formula"),
    Column("atomic_numbers", INTEGERS, "", "atomic number of each atom (N)"),
    Column("frac_coords", FLOATS, "", "fractional coordinates, row-major (3N)"),
    Column("lattice", FLOATS, "Å", "lattice vectors as rows, row-major (9)"),
)


SPACE_GROUP = Column("space_group", pa.int64(), "", "space group number, 1 to 230")


_WYCKOFF = Column("wyckoff", INTEGERS, "", "Wyckoff letter of each site (1 = a … 26 = z, 27 = A)")


_ELEMENTS = Column("elements", INTEGERS, "", "atomic number of each site")


_SITES_MEANING = "fractional coordinates of one representative per site, conventional cell, row-major (3 a site)"


_LATTICE_PARAMETERS = Column("lattice_parameters", FLOATS, "Å and degrees", "a, b, c, α, β, γ of the conventional cell")


TOKENS = (ID, SPACE_GROUP, _WYCKOFF, _ELEMENTS, Column("frac_coords", FLOATS, "", _SITES_MEANING), _LATTICE_PARAMETERS)


#: Tokens beside a crystal in one table: the crystal keeps `frac_coords`, the sites' go here.
SITE_FRAC_COORDS = Column("site_frac_coords", FLOATS, "", _SITES_MEANING)


CRYSTALS_AND_TOKENS = (*CRYSTALS, SPACE_GROUP, _WYCKOFF, _ELEMENTS, SITE_FRAC_COORDS, _LATTICE_PARAMETERS)


LOG_PROBS = tuple(
    Column(name, FLOAT, "nat", meaning)
    for name, meaning in (
        ("log_prob_w", "log-probability of the Wyckoff letters"),
        ("log_prob_xyz", "log-probability density of the free coordinates"),
        ("log_prob_a", "log-probability of the elements"),
        ("log_prob_l", "log-probability density of the free lattice parameters"),
        ("log_prob", "sum of the four"),
    )
)


SAMPLES = (
    *CRYSTALS_AND_TOKENS,
    Column("log_prob", FLOAT, "nat", "log-probability under the policy, without masks, at temperature 1"),
    Column(
        "behaviour_log_prob", FLOAT, "nat", "log-probability under the policy with the masks and temperature of this run"
    ),
    STATUS,
)


#: States of Markov chains; `id` is `chain@step`.
CHAINS = (
    *CRYSTALS_AND_TOKENS,
    Column("chain", pa.string(), "", "id of the crystal that the chain started from"),
    Column("step", pa.int64(), "", "Metropolis steps from the start"),
    Column("acceptance", FLOAT, "", "accepted fraction of the steps so far"),
    Column("log_prob", FLOAT, "nat", "log-probability under the policy"),
    Column("reward", FLOAT, "eV/atom", "reward in the chain's law; null without one"),
    STATUS,
)


#: Crystals to score that no policy drew.
PROPOSALS = (
    *CRYSTALS_AND_TOKENS,
    Column(
        "donor", pa.string(), "", "id of the known crystal whose elements were exchanged; null of known crystals themselves"
    ),
    Column("exchange", pa.string(), "", "which elements took the place of which"),
    Column("likeness", FLOAT, "nat", "how readily, by the compounds that share prototypes"),
    STATUS,
)
