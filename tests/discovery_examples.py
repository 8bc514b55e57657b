"""Crystals, references and results folders made on the spot for the tests of discovery and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.crystal.encode import encode
from crystalformer_rl.crystal.structure import Crystal, crystal_columns
from crystalformer_rl.crystal.tokens import token_columns
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import SAMPLES
from crystalformer_rl.tables.energy_columns import HULL, REFERENCE, RELAXED
from crystalformer_rl.tables.parquet import write_table
from crystalformer_rl.tables.property_columns import PROPERTIES
from crystalformer_rl.tables.provenance import provenance

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
IDENTITY = {"name": "example", "weights_sha256": "0" * 64, "corrections": "none"}


def crystal(symbols: str, coords: list, lattice: np.ndarray) -> Crystal:
    """`symbols`: space-separated, one an atom."""
    return Crystal(np.array([ATOMIC_NUMBERS[s] for s in symbols.split()]), np.array(coords, float), np.array(lattice, float))


def rock_salt(a: str, x: str, length: float = 5.6) -> Crystal:
    return crystal(f"{a} {x}", [[0, 0, 0], [0.5, 0.5, 0.5]], FCC * length)


def zincblende(a: str, x: str, length: float = 6.0) -> Crystal:
    return crystal(f"{a} {x}", [[0, 0, 0], [0.25, 0.25, 0.25]], FCC * length)


def caesium_chloride(a: str, x: str, length: float = 4.1) -> Crystal:
    return crystal(f"{a} {x}", [[0, 0, 0], [0.5, 0.5, 0.5]], np.eye(3) * length)


def fluorite(a: str, x: str, length: float = 5.5) -> Crystal:
    return crystal(f"{a} {x} {x}", [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]], FCC * length)


def perovskite(a: str, b: str, x: str, length: float = 4.0, *, corner: str = "a") -> Crystal:
    """`corner`: which of the cations, a or b, sits at the origin; both describe the same structure."""
    if corner == "a":
        coords = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    else:
        coords = [[0.5, 0.5, 0.5], [0, 0, 0], [0, 0, 0.5], [0, 0.5, 0], [0.5, 0, 0]]
    return crystal(f"{a} {b} {x} {x} {x}", coords, np.eye(3) * length)


def disguised(c: Crystal, seed: int, *, noise: float = 0.0) -> Crystal:
    """The same crystal in another cell: axes recombined, origin moved, rotated, atoms shuffled; `noise` in Å."""
    rng = np.random.default_rng(seed)
    change = np.eye(3)
    for _ in range(3):
        i, j = rng.choice(3, 2, replace=False)
        step = np.eye(3)
        step[i, j] = rng.choice([-1, 1])
        change = step @ change
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(len(c))
    lattice = change @ c.lattice
    coords = c.frac_coords @ np.linalg.inv(change) + rng.uniform(size=3)
    coords = coords + rng.normal(0, 1, coords.shape) * noise @ np.linalg.inv(lattice)
    return Crystal(c.atomic_numbers[order], coords[order] % 1.0, lattice @ rotation)


def doubled(c: Crystal) -> Crystal:
    """A supercell of two cells along the first axis."""
    lattice = c.lattice * np.array([[2.0], [1.0], [1.0]])
    coords = np.concatenate([c.frac_coords * [0.5, 1, 1], c.frac_coords * [0.5, 1, 1] + [0.5, 0, 0]])
    return Crystal(np.tile(c.atomic_numbers, 2), coords, lattice)


def crystal_table(
    crystals: list[Crystal | None], ids: list[str] | None = None, statuses: list[str] | None = None
) -> pa.Table:
    names = ids or [f"c{i}" for i in range(len(crystals))]
    data = {"id": names, **crystal_columns(crystals), "status": statuses or ["ok" if c else "no_crystal" for c in crystals]}
    return make_table(SAMPLES, data)


def reference_table(entries: dict[str, tuple[Crystal, str]]) -> pa.Table:
    """A REFERENCE table from {id: (crystal, role)}; hull-only entries keep their formula alone."""
    crystals = [c if role != "hull_only" else None for c, role in entries.values()]
    sites = [s for s, _ in encode(crystals)]
    data = {"id": list(entries), **crystal_columns(crystals), **token_columns(sites, coords_name="site_frac_coords")}
    data["formula"] = [c.formula for c, _ in entries.values()]
    data["role"] = [role for _, role in entries.values()]
    data["status"] = ["ok"] * len(entries)
    return make_table(REFERENCE, data)


def write_reference(path: Path, entries: dict[str, tuple[Crystal, str]]) -> Path:
    write_table(path, reference_table(entries), {"stage": "reference", "potential": IDENTITY, "elemental_energies": {}})
    return path


def salt_reference() -> dict[str, tuple[Crystal, str]]:
    """Halides and oxides of simple metals; some held out, some known to the hull alone."""
    entries: dict[str, tuple[Crystal, str]] = {}
    for i, (a, x) in enumerate((a, x) for a in ("Li", "Na", "K") for x in ("F", "Cl", "Br")):
        entries[f"rs-{a}{x}"] = (rock_salt(a, x, 4.0 + 0.3 * i), "held_out" if a + x == "KBr" else "pretraining")
    entries["zb-ZnS"] = (zincblende("Zn", "S", 5.4), "pretraining")
    entries["fl-CaF2"] = (fluorite("Ca", "F"), "pretraining")
    entries["pv-SrTiO3"] = (perovskite("Sr", "Ti", "O"), "pretraining")
    entries["h-MgO"] = (rock_salt("Mg", "O", 4.2), "hull_only")
    return entries


def sampled_crystals(policy: str, n: int, seed: int) -> list[Crystal | None]:
    """Crystals of the families above with elements drawn at random; some repeat, some are none."""
    rng = np.random.default_rng(seed)
    cations, anions = ["Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Zn"], ["F", "Cl", "Br", "O", "S"]
    crystals: list[Crystal | None] = []
    for _ in range(n):
        kind = rng.integers(0, 6)
        a, b, x = rng.choice(cations), rng.choice(["Ti", "Zr", "Hf", "Sn"]), rng.choice(anions)
        length = rng.normal(1, 0.02)
        made = [
            None,
            rock_salt(a, x, 5.4 * length),
            zincblende(a, x, 5.9 * length),
            caesium_chloride(a, x, 3.9 * length),
            fluorite(a, x, 5.6 * length),
            perovskite(a, b, x, 4.2 * length, corner=rng.choice(["a", "b"])),
        ][kind]
        crystals.append(made if rng.uniform() > 0.03 else None)
    return crystals


def stage_tables(crystals: list[Crystal | None], policy: str, seed: int, shift: float) -> dict[str, pa.Table]:
    """Samples, relaxed, hull and properties tables with plausible figures; `shift` (eV/atom) moves the energies."""
    rng = np.random.default_rng(seed)
    n = len(crystals)
    ids = [f"{policy}-{i}" for i in range(n)]
    sampled = ["ok" if c else "no_crystal" for c in crystals]
    relaxed = [s if s != "ok" else ("exploded" if rng.uniform() < 0.03 else "ok") for s in sampled]
    sites = [s for s, _ in encode(crystals)]
    columns = crystal_columns(crystals)
    groups = [None if s is None else s.space_group for s in sites]
    above = np.abs(rng.normal(0.12, 0.15, n)) + shift - 0.05
    above[:2] -= 0.4
    initial = above + np.abs(rng.normal(0, 0.1, n))
    gap = np.where(rng.uniform(size=n) < 0.3, 0.0, np.abs(rng.normal(3, 2, n)))
    eps = 1.5 + 12 / (1 + gap) * rng.uniform(0.6, 1.4, n)

    def where(values: np.ndarray, statuses: list[str]) -> list[float | None]:
        return [float(v) if s == "ok" else None for v, s in zip(values, statuses, strict=True)]

    tables = {
        "samples": make_table(
            SAMPLES,
            {"id": ids, **columns, **token_columns(sites, coords_name="site_frac_coords"),
             "log_prob": where(rng.normal(-20, 6, n), sampled), "status": sampled},
        ),
        "relaxed": make_table(
            RELAXED,
            {"id": ids, **columns, "space_group": groups, "energy": where(above - 4, relaxed),
             "energy_initial": where(initial - 4, relaxed), "force_max": where(rng.uniform(0, 0.05, n), relaxed),
             "stress_max": where(rng.uniform(0, 0.5, n), relaxed), "evaluations": [int(x) for x in rng.integers(1, 25, n)],
             "converged": [bool(x) if s == "ok" else None for x, s in zip(rng.uniform(size=n) < 0.9, relaxed, strict=True)],
             "status": relaxed},
        ),
        "hull": make_table(
            HULL,
            {"id": ids, "formula": columns["formula"], "formation_energy": where(above - 2, relaxed),
             "e_above_hull": where(above, relaxed), "formation_energy_initial": where(initial - 2, relaxed),
             "e_above_hull_initial": where(initial, relaxed),
             "decomposition": [json.dumps({"rs-NaCl": 1.0}) if s == "ok" else None for s in relaxed],
             "decomposition_formulas": ["0.50 NaCl + 0.50 KBr" if s == "ok" else None for s in relaxed],
             "hull_support": [int(x) if s == "ok" else None for x, s in zip(rng.integers(0, 30, n), relaxed, strict=True)],
             "below_hull": where(np.maximum(-above, 0.0), relaxed),
             "status": relaxed},
        ),
        "properties": make_table(
            PROPERTIES,
            {"id": ids, "band_gap": where(gap, relaxed), "band_gap_std": where(0.2 + 0.1 * gap, relaxed),
             "eps_electronic": where(eps, relaxed), "eps_electronic_std": where(0.1 * eps, relaxed),
             "eps_total": where(2 * eps, relaxed), "eps_total_std": where(0.3 * eps, relaxed),
             "fom": where(gap * eps, relaxed), "fom_std": where(0.3 * gap * eps, relaxed),
             "insulator_probability": where(gap / (gap + 0.5), relaxed),
             "applicability": where(rng.uniform(0.5, 2, n), relaxed),
             "status": relaxed},
        ),
    }  # fmt: skip
    return tables


def write_results(folder: Path, n: int = 80, policies: tuple[str, ...] = ("base", "tuned")) -> Path:
    """A results folder as the pipeline lays it out, through the stages' own functions and commands."""
    from click.testing import CliRunner

    from crystalformer_rl.cli import cli

    reference = write_reference(folder / "resources" / "reference.parquet", salt_reference())
    for k, policy in enumerate(policies):
        tables = stage_tables(sampled_crystals(policy, n, seed=k), policy, seed=10 + k, shift=-0.06 * k)
        paths = {
            "samples": folder / "samples" / policy / "0.parquet",
            "relaxed": folder / "relaxed" / policy / "0.parquet",
            "hull": folder / "hull" / f"{policy}.parquet",
            "properties": folder / "properties" / f"{policy}.parquet",
        }
        for stage, path in paths.items():
            inputs = [reference] if stage == "hull" else []
            write_table(path, tables[stage], provenance(stage, {"seed": k}, inputs, potential=IDENTITY))
        novelty = folder / "novelty" / f"{policy}.parquet"
        calls = [
            ["novelty", str(paths["relaxed"]), "--reference", str(reference), "--out", str(novelty)],
            ["evaluate", str(paths["samples"]), "--reference", str(reference), "--out", str(folder / "evaluation" / policy),
             "--relaxed", str(paths["relaxed"]), "--hull", str(paths["hull"]), "--novelty", str(novelty),
             "--properties", str(paths["properties"]), "--name", policy],
        ]  # fmt: skip
        for call in calls:
            CliRunner().invoke(cli, call, catch_exceptions=False)
    folders = [str(folder / "evaluation" / policy) for policy in policies]
    CliRunner().invoke(cli, ["rank", *folders, "--out", str(folder)], catch_exceptions=False)
    write_updates(folder)
    return folder


def write_updates(folder: Path, rounds: int = 4, updates: int = 5) -> None:
    rng = np.random.default_rng(3)
    for k in range(1, rounds + 1):
        steps = np.arange(1, updates + 1) + (k - 1) * updates
        columns = {
            "round": [k] * updates,
            "update": steps,
            "reward_mean": -0.4 + 0.012 * steps + rng.normal(0, 0.02, updates),
            "reward_std": np.full(updates, 0.2),
            "stable_fraction": 0.3 + 0.01 * steps,
            "kl": 0.15 * steps,
            "kl_standard_error": np.full(updates, 0.2),
            "sun_fraction": 0.2 + 0.01 * steps,
            "effective_templates": 140.0 - steps,
            "oxide_fraction": np.full(updates, 0.15),
            "kl_needed": 0.002 * steps,
            "reward_e_above_hull": -0.7 + 0.01 * steps,
            "entropy": 20 - 0.2 * steps,
            "unique_fraction": np.full(updates, 0.97),
            "evaluations": [int(64 * s) for s in steps],
            "failed_fraction": np.full(updates, 0.05),
        }
        write_table(
            folder / "finetune" / "tuned" / f"round_{k}" / "updates.parquet",
            pa.table(columns),
            provenance("finetune", {"round": k, "tau": 0.1, "seed": 0}),
        )
