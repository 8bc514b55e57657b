"""Train the property models, with every figure from rows whose formula, or chemical family, the model had not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from crystalformer_rl.properties.accuracy import (
    Covered,
    Merits,
    calibrate,
    constants_covered,
    dielectric_figures,
    fom_figures,
    gap_errors,
    gap_figures,
    gaps_covered,
)
from crystalformer_rl.properties.dielectric_training import DielectricSet, Unseen, fit, judged, kernel_of
from crystalformer_rl.properties.element_table import element_table, oxidation_states
from crystalformer_rl.properties.examples import Examples
from crystalformer_rl.properties.extrapolation import (
    anisotropy_figures,
    by_applicability,
    by_family,
    calibrate_far,
    constant_errors,
)
from crystalformer_rl.properties.families import anion_family, cation_family
from crystalformer_rl.properties.features import Elements
from crystalformer_rl.properties.gap_training import (
    Advance,
    NetworkSettings,
    TrainedGap,
    best_sharpness,
    scaled,
    train_gap,
    without_families,
)
from crystalformer_rl.properties.models import (
    DIELECTRIC,
    MERITS,
    PropertyModels,
    Standardization,
    dielectric_constant,
    dielectric_rows,
    nearest_distance,
    widened,
)
from crystalformer_rl.properties.network import OUTPUTS, Members, combine
from crystalformer_rl.properties.seen_formulas import fingerprints

SPREAD_AT_EDGE = 0.95
"""Share of the training crystals whose distance to the next one counts as at most 1."""

_CALIBRATIONS = 3  # the widening and the calibration lean on each other


def elements() -> Elements:
    """The periodic table with the precision it is stored in."""
    return Elements(element_table().astype(np.float32).astype(float), oxidation_states())


@dataclass(frozen=True)
class Material:
    """What the models are trained on.

    gaps: label `band_gap` (eV, 0 for a metal), the crystals of `dielectric` last; dielectric: with the features that `gaps` has;
    blocks: sizes of the feature blocks (embedding, composition, structure; of the embedding the part that the dielectric constants
    use); moved: `dielectric` with its crystals that have all labels in another geometry, by a name of what was done to them.
    """

    gaps: Examples
    dielectric: DielectricSet
    blocks: tuple[int, int, int]
    moved: Mapping[str, DielectricSet] = field(default_factory=dict)


def train(
    material: Material, card: Mapping[str, Any], settings: NetworkSettings | None = None, advance: Advance | None = None
) -> PropertyModels:
    """Train everything and judge it by cross-validation, and by leaving chemical families out.

    card: what the models' card says besides the figures. advance is called with 1 for each network, of which there are
    `settings.count` and one for each family of anions.
    """
    settings = settings or NetworkSettings()
    gaps, size = material.gaps, card["embedding_size"]
    trained = train_gap(gaps, settings, advance)
    truth = gaps.labels["band_gap"]
    calibration = {"insulator_logit": best_sharpness(trained.unseen[..., 0].mean(0), truth > 0)}
    estimate = combine(trained.unseen, calibration["insulator_logit"])
    calibration["band_gap"] = calibrate(gaps_covered(estimate, truth), truth > 0)

    kernel = kernel_of(material.blocks)
    data = _narrow(material.dielectric, size)
    examples = data.examples
    unseen = judged(kernel, data, examples.folds)
    families = {"anion": anion_family, "cation": cation_family}
    groups = {name: [of(formula) for formula in examples.formulas] for name, of in families.items()}
    left_out = {name: judged(kernel, data, group) for name, group in groups.items()}

    learned = data.take(~examples.withheld)
    scaling = Standardization.of(learned.examples.rows)
    # as stored, so that what is trained is what predicts
    inputs = scaling(learned.examples.rows).astype(np.float16).astype(float)
    processes, anisotropy = fit(kernel, learned, inputs)
    scale = float(np.quantile(nearest_distance(processes["eps_electronic"], inputs, itself=True), SPREAD_AT_EDGE))

    far: dict[str, float] = {}
    both = _together(list(left_out.values()))
    covered: dict[str, Covered] = {}
    for name in DIELECTRIC:
        constants = examples.labels[name]
        far[name] = 0.0
        for _ in range(_CALIBRATIONS):
            covered[name] = constants_covered(*unseen.logs[name], constants, far[name], unseen.distance / scale)
            calibration[name] = calibrate(covered[name], np.isfinite(constants))
            far[name] = calibrate_far(calibration[name], both, scale, name, np.tile(constants, len(left_out)))
        covered[name] = constants_covered(*unseen.logs[name], constants, far[name], unseen.distance / scale)
    last = slice(len(truth) - len(examples.formulas), None)
    gap, gap_std = (values[last] for values in estimate.reported(calibration["band_gap"]))
    figures: dict[str, Any] = {
        "gap": gap_figures(gaps, estimate, calibration["band_gap"]),
        "dielectric": {
            name: dielectric_figures(examples, name, unseen.logs[name], calibration[name], covered[name])
            for name in DIELECTRIC
        },
        "applicability": by_applicability(examples, unseen, scale, calibration, far),
        "families": {name: by_family(examples, group, left_out[name]) for name, group in groups.items()},
        "families_applicability": by_applicability(_repeated(examples, len(left_out)), both, scale, calibration, far),
        "anisotropy": anisotropy_figures(data.deviators[data.complete], unseen.deviators[data.complete]),
    }
    for name, constant in MERITS.items():
        known = np.isfinite(examples.labels[constant])
        factor = widened(calibration[constant], far[constant], unseen.distance / scale)
        eps = dielectric_constant(*unseen.logs[constant], factor)
        merit = Merits.of(
            examples.labels[constant][known],
            examples.labels["band_gap"][known],
            (gap[known], gap_std[known]),
            (eps[0][known], eps[1][known]),
        )
        calibration[name] = calibrate(merit.covered, np.ones(int(known.sum()), bool))
        figures[name] = fom_figures(examples.folds[known], merit, calibration[name])
        first = np.array(examples.sources)[known] == examples.sources[0]
        figures[name]["complete"] = fom_figures(examples.folds[known][first], merit.take(first), calibration[name])
    figures["gap_families"] = _gap_families(gaps, settings, calibration, advance)
    figures["unrelaxed"] = [
        _moved_figures(name, material, size, trained, calibration, settings) for name in ("relaxed", *material.moved)
    ]
    models = PropertyModels(
        elements(),
        trained.scaling,
        trained.members,
        scaling,
        processes,
        anisotropy,
        calibration,
        far,
        scale,
        fingerprints(formula for formula, out in zip(gaps.formulas, gaps.withheld, strict=True) if not out),
        {
            **card,
            "figures": figures,
            "networks": settings.count,
            "rows": {"gaps": int((~gaps.withheld).sum()), "dielectric": len(inputs)},
        },
    )
    figures["withheld"] = _withheld_figures(models, material)
    return models


def _narrow(data: DielectricSet, embedding_size: int) -> DielectricSet:
    """With the features alone that the dielectric constants are learned from."""
    return replace(data, examples=replace(data.examples, rows=dielectric_rows(data.examples.rows, embedding_size)))


def _together(parts: list[Unseen]) -> Unseen:
    """One after the other."""
    logs = {name: tuple(np.concatenate([part.logs[name][i] for part in parts]) for i in range(2)) for name in DIELECTRIC}
    return Unseen(
        {name: (mean, std) for name, (mean, std) in logs.items()},
        np.concatenate([part.distance for part in parts]),
        np.concatenate([part.deviators for part in parts]),
    )


def _repeated(examples: Examples, times: int) -> Examples:
    return examples.take(np.tile(np.arange(len(examples.formulas)), times))


def _gap_families(
    gaps: Examples, settings: NetworkSettings, calibration: Mapping[str, float], advance: Advance | None
) -> list[dict[str, Any]]:
    """Errors of the gap and of the metal decision on families of anions that the network had not seen, and over all."""
    families = [anion_family(formula) for formula in gaps.formulas]
    estimate = combine(without_families(gaps, families, settings, advance), calibration["insulator_logit"])
    family = np.array(families)
    whole = [("all", np.ones(len(family), bool)), *((name, family == name) for name in sorted(set(families)))]
    truth = gaps.labels["band_gap"]
    return [{"family": name} | gap_errors(truth, estimate, calibration["band_gap"], rows) for name, rows in whole]


def _moved_figures(
    name: str,
    material: Material,
    size: int,
    trained: TrainedGap,
    calibration: Mapping[str, float],
    settings: NetworkSettings,
) -> dict[str, Any]:
    """Errors on the dielectric set in another geometry, by models that had not seen the formulas."""
    seen = _narrow(material.dielectric, size)
    moved = material.moved.get(name, material.dielectric)
    unseen = judged(kernel_of(material.blocks), _narrow(moved, size), seen.examples.folds, seen)
    inputs, folds = scaled(trained.scaling, moved.examples.rows), moved.examples.folds
    outputs = np.empty((settings.per_fold, len(folds), OUTPUTS))
    for fold in np.unique(folds):
        chosen = slice(int(fold) * settings.per_fold, (int(fold) + 1) * settings.per_fold)
        members = Members(tuple((weight[chosen], bias[chosen]) for weight, bias in trained.members.layers))
        outputs[:, folds == fold] = members(inputs[folds == fold])
    estimate = combine(outputs, calibration["insulator_logit"])
    gap, _ = estimate.reported(calibration["band_gap"])
    truth, tried = moved.examples.labels["band_gap"], moved.complete
    return {
        "geometry": name,
        **constant_errors(moved.examples, unseen, tried),
        "mae_gap": float(np.abs(gap - truth)[tried].mean()),
        "insulators_found": float((estimate.insulator_probability >= 0.5)[tried & (truth > 0)].mean()),
    }


def _withheld_figures(models: PropertyModels, material: Material) -> dict[str, Any]:
    """Errors of the finished models on the formulas that no model learned from."""
    out = material.gaps.withheld
    gaps = material.gaps.take(out)
    figures: dict[str, Any] = {}
    if gaps.formulas:
        every = np.ones(len(gaps.formulas), bool)
        figures["gap"] = gap_errors(
            gaps.labels["band_gap"], models.gap_estimate(gaps.rows), models.calibration["band_gap"], every
        )
    data = material.dielectric.take(material.dielectric.examples.withheld)
    n = len(data.examples.formulas)
    if n:
        said = models.predict_rows(data.examples.rows, data.orientations, np.zeros(n, bool))
        for name in DIELECTRIC:
            truth = data.examples.labels[name]
            known = np.isfinite(truth)
            error = np.abs(np.log(getattr(said, name)[known]) - np.log(truth[known]))
            figures[name] = {"rows": int(known.sum()), "mae_ln": float(error.mean()) if known.any() else None}
    return figures
