"""How much relaxing changes what the property models say: a policy's samples before and after.

    python scripts/properties_before_relaxation.py [--n 200] [--seed 0] [--policy POLICY]

Of the samples that both relax and are predicted: medians and ninth deciles of the changes, and how often the metal decision turns.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

import crystalformer_rl as cf


def main() -> None:
    """Sample, relax, predict twice, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", default="embedded")
    given = parser.parse_args()
    sampled = cf.load_policy(given.policy).sample(given.n, seed=given.seed)
    relaxed = cf.relax(sampled)
    before, after = cf.properties(sampled), cf.properties(relaxed)
    before, after = (table.set_index("id") for table in (before, after))
    both = before.index[(before["status"] == "ok") & (after.reindex(before.index)["status"] == "ok")]
    before, after = before.loc[both], after.loc[both]
    metal = (before["band_gap"] == 0, after["band_gap"] == 0)
    insulators = ~metal[0] & ~metal[1]
    changes = {
        "band_gap, eV": np.abs(before["band_gap"] - after["band_gap"])[insulators],
        **{f"ln {name}": np.abs(np.log(before[name] / after[name]))[insulators] for name in ("eps_electronic", "eps_total")},
    }
    found = {
        "sampled": given.n,
        "compared": len(both),
        "insulators_before_and_after": int(insulators.sum()),
        "metal_decision_turned": int((metal[0] != metal[1]).sum()),
        "applicability_median": [round(float(table["applicability"].median()), 2) for table in (before, after)],
        "changes": {
            name: {"median": round(float(np.median(values)), 3), "ninth_decile": round(float(np.quantile(values, 0.9)), 3)}
            for name, values in changes.items()
            if len(values)
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
