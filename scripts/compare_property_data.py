"""What labels of compositions add to the property models: errors with and without them, on the same crystals, with nothing else changed.

    python scripts/compare_property_data.py DIELECTRIC GAPS COMPOSITIONS [--cache FOLDER] [--no-gaps]

Both are trained the same way, and judged by formula, with anion families and with cation families left out, on the crystals that
both have, those of held-out formulas among them. The differences' standard errors are of formulas. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np

from crystalformer_rl.properties.dielectric_training import judged, kernel_of
from crystalformer_rl.properties.families import anion_family, cation_family
from crystalformer_rl.properties.gap_training import NetworkSettings, without_families
from crystalformer_rl.properties.models import DIELECTRIC, dielectric_rows
from crystalformer_rl.properties.network import combine
from crystalformer_rl.properties.training import Material
from crystalformer_rl.stages.train_properties import gathered

SHARPNESS = 0.5
"""Factor on the networks' logits; the metal decision does not depend on it."""


def paired(old: np.ndarray, new: np.ndarray, formulas: list[str]) -> dict[str, Any]:
    """Mean absolute errors (n,) of both, their difference, and its standard error over formulas."""
    difference = new - old
    names, index = np.unique(formulas, return_inverse=True)
    sums = np.bincount(index, difference - difference.mean(), len(names))
    error = float(np.sqrt((sums**2).sum()) / len(old))
    rounded = {"without": old.mean(), "with": new.mean(), "difference": difference.mean(), "standard_error": error}
    return {"rows": len(old), **{name: round(float(value), 4) for name, value in rounded.items()}}


def constants(materials: tuple[Material, Material], size: int) -> dict[str, Any]:
    """Errors of ln ε on the crystals with all labels, which come first in both."""
    groupings = {"formula": None, "anion families": anion_family, "cation families": cation_family}
    found: dict[str, Any] = {}
    for kind, of in groupings.items():
        errors = []
        for material in materials:
            data = material.dielectric
            data = replace(data, examples=replace(data.examples, rows=dielectric_rows(data.examples.rows, size)))
            groups = data.examples.folds if of is None else [of(formula) for formula in data.examples.formulas]
            unseen, n = judged(kernel_of(material.blocks), data, groups), int(data.complete.sum())
            labels = {name: np.log(data.examples.labels[name][:n]) for name in DIELECTRIC}
            errors.append({name: np.abs(unseen.logs[name][0][:n] - truth) for name, truth in labels.items()})
        formulas = list(materials[0].dielectric.examples.formulas[: len(errors[0]["eps_total"])])
        found[kind] = {name: paired(errors[0][name], errors[1][name], formulas) for name in DIELECTRIC}
        print(kind, json.dumps(found[kind]), flush=True)
    return found


def gaps(materials: tuple[Material, Material], settings: NetworkSettings) -> dict[str, Any]:
    """Errors of insulators' gaps (eV), and shares of wrong metal decisions, with anion families left out."""
    errors, wrong, formulas = [], [], []
    for material in materials:
        examples = material.gaps
        shared = np.array([source != "mpts_52" for source in examples.sources], bool)
        outputs = without_families(examples, [anion_family(formula) for formula in examples.formulas], settings)
        estimate = combine(outputs, SHARPNESS)
        gap, _ = estimate.reported(1.0)
        truth = examples.labels["band_gap"]
        order = np.lexsort((truth[shared], examples.rows[shared, 0], np.array(examples.formulas)[shared]))
        errors.append(np.abs(gap - truth)[shared][order])
        wrong.append(((gap > 0) != (truth > 0))[shared][order].astype(float))
        formulas.append(np.array(examples.formulas)[shared][order])
        insulators = (truth > 0)[shared][order]
    assert np.array_equal(*formulas)
    return {
        "insulators' gap, eV": paired(errors[0][insulators], errors[1][insulators], formulas[0][insulators].tolist()),
        "wrong metal decisions, insulators": paired(
            wrong[0][insulators], wrong[1][insulators], formulas[0][insulators].tolist()
        ),
        "wrong metal decisions, metals": paired(
            wrong[0][~insulators], wrong[1][~insulators], formulas[0][~insulators].tolist()
        ),
    }


def main() -> None:
    """Gather both, judge both, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("dielectric", "gaps", "compositions"):
        parser.add_argument(name)
    parser.add_argument("--cache")
    parser.add_argument("--no-gaps", action="store_true", help="skip the networks, which take minutes each")
    given = parser.parse_args()
    gathering = [
        gathered(given.dielectric, given.gaps, compositions, cache=given.cache, distortions=())
        for compositions in (None, given.compositions)
    ]
    materials = (gathering[0][0], gathering[1][0])
    found = constants(materials, gathering[0][1]["embedding_size"])
    if not given.no_gaps:
        found["gaps, anion families"] = gaps(materials, NetworkSettings(cache=given.cache))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
