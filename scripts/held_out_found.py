"""How many compounds that were held out from a policy's training its samples hold, for several policies side by side.

    python scripts/held_out_found.py base=resources/embedded/policy.safetensors tuned=results/finetune/tuned/round_4/policy.safetensors

All draw the same number of crystals with the same seed. A compound counts as found where a sample has its composition, space group and Wyckoff letters
(equal ones for all origins and axes), and as matched where pymatgen's StructureMatcher matches a sample as drawn, unrelaxed, with it, too.
Prints a JSON line a policy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Element, Structure

from crystalformer_rl.crystal.prototype import Kind, kind
from crystalformer_rl.crystal.tokens import Sites, primitive, sites_from_table
from crystalformer_rl.finetune.rollout import roll_out
from crystalformer_rl.policy.checkpoint import load_policy
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.tables.energy_columns import REFERENCE
from crystalformer_rl.tables.parquet import read_table
from crystalformer_rl.tables.role import Role

EMBEDDED = Path(__file__).resolve().parent.parent / "resources" / "embedded"
BATCH = 1000


def held_out(reference: Path) -> dict[Kind, list[Sites]]:
    """Compounds of the role `held_out` by their kind."""
    table = read_table(reference, REFERENCE)
    rows = [i for i, role in enumerate(table.column("role").to_pylist()) if role == Role.HELD_OUT]
    found: dict[Kind, list[Sites]] = defaultdict(list)
    for sites in sites_from_table(table.take(rows), str(reference)):
        if sites is not None:
            found[kind(sites.space_group, sites.wyckoff, sites.elements)].append(sites)
    return found


def structure(sites: Sites) -> Structure:
    crystal = primitive(sites)
    return Structure(crystal.lattice, [Element.from_Z(int(z)) for z in crystal.atomic_numbers], crystal.frac_coords)


def samples_of_kinds(path: str, kinds: dict[Kind, list[Sites]], n: int, seed: int) -> dict[Kind, list[Sites]]:
    """Samples of a policy that are of the kinds asked for."""
    policy, card = load_policy(path)
    wanted = {(key[0], frozenset(element for element, _ in key[1])) for key in kinds}
    found: dict[Kind, list[Sites]] = defaultdict(list)
    for start in range(0, n, BATCH):
        rollout = roll_out(policy, seed, range(start, min(start + BATCH, n)), card["space_group_counts"], Behaviour.make())
        for sites in rollout.sites:
            if sites is None or (sites.space_group, frozenset(sites.elements.tolist())) not in wanted:
                continue
            key = kind(sites.space_group, sites.wyckoff, sites.elements)
            if key in kinds:
                found[key].append(sites)
        print(f"{path}: {start + len(rollout.sites)} of {n}", file=sys.stderr, end="\r")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="+", metavar="NAME=POLICY")
    parser.add_argument("--n", type=int, default=50_000, help="samples of each [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--reference", type=Path, default=EMBEDDED / "reference.parquet")
    arguments = parser.parse_args()
    compounds, matcher = held_out(arguments.reference), StructureMatcher()
    for text in arguments.policies:
        name, _, path = text.partition("=")
        drawn = samples_of_kinds(path, compounds, arguments.n, arguments.seed)
        matched = sum(
            any(matcher.fit(structure(ours), structure(theirs)) for ours in drawn[key])
            for key in drawn
            for theirs in compounds[key]
        )
        facts = {"held_out": sum(map(len, compounds.values())), "found": sum(len(compounds[key]) for key in drawn)}
        print(json.dumps({"policy": name, "samples": arguments.n, **facts, "matched": matched}), flush=True)


if __name__ == "__main__":
    main()
