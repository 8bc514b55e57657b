"""Sample twenty formulas that the policy never saw, and count the crystals that have them.

    python scripts/check_formulas.py [N]

Formulas are those of held-out entries of the embedded reference that no pretraining entry has; N (default 16) crystals of each. The
formula is counted from the crystal in the table that `crystalformer-rl sample --formula` writes. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.elements import reduced_formula
from crystalformer_rl.tables.parquet import read_table

EMBEDDED = Path(__file__).resolve().parent.parent / "resources" / "embedded"


def unseen_formulas(count: int) -> list[str]:
    """Held-out formulas, drawn once."""
    table = read_table(EMBEDDED / "reference.parquet")
    rows = list(zip(table["formula"].to_pylist(), table["role"].to_pylist(), strict=True))
    seen = {formula for formula, role in rows if role == "pretraining"}
    unseen = sorted({formula for formula, role in rows if role == "held_out" and formula} - seen)
    return [unseen[i] for i in np.random.default_rng(0).choice(len(unseen), count, replace=False)]


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 16
    right = wrong = failed = 0
    formulas = unseen_formulas(20)
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "samples.parquet")
        for formula in formulas:
            call = [
                "sample",
                "--policy",
                str(EMBEDDED / "policy.safetensors"),
                "--n",
                str(n),
                "--formula",
                formula,
                "--out",
                out,
            ]
            CliRunner().invoke(cli, call, catch_exceptions=False)
            table = read_table(out)
            found = [reduced_formula(z) for z in table["atomic_numbers"].to_pylist() if z]
            right += sum(f == formula for f in found)
            wrong += sum(f != formula for f in found)
            failed += table.num_rows - len(found)
            print(f"{formula}: {sum(f == formula for f in found)} of {table.num_rows}", flush=True)
    print(json.dumps({"formulas": formulas, "samples": n, "right": right, "wrong": wrong, "no_crystal": failed}))


if __name__ == "__main__":
    main()
