"""Train the property models, with every figure from rows whose formula the model had not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from crystalformer_rl.properties.accuracy import (
    Merits,
    applicability_figures,
    calibrate,
    constants_covered,
    dielectric_figures,
    fom_figures,
    gap_figures,
    gaps_covered,
)
from crystalformer_rl.properties.element_table import element_table, oxidation_states
from crystalformer_rl.properties.examples import FOLDS, Examples
from crystalformer_rl.properties.features import Elements
from crystalformer_rl.properties.gaussian_process import CLIP, GaussianProcess, Kernel
from crystalformer_rl.properties.models import (
    DIELECTRIC,
    MERITS,
    PropertyModels,
    Standardization,
    dielectric_constant,
    dielectric_rows,
    nearest_distance,
)
from crystalformer_rl.properties.network import OUTPUTS, Members, combine

Advance = Callable[[int], Any]


@dataclass(frozen=True)
class NetworkSettings:
    """The networks for the gap. `per_fold` networks are trained without each fold; all of them make the ensemble.

    absolute: share of the plain absolute error in the loss of the gap, beside the Laplace likelihood, which lets
    crystals with a large stated error off too lightly; metals: weight of the gap that is given to a metal.
    """

    hidden: int = 224
    epochs: int = 40
    batch: int = 512
    per_fold: int = 2
    input_dropout: float = 0.1
    dropout: float = 0.08
    learning_rate: float = 5e-3
    weight_decay: float = 5e-2
    absolute: float = 0.7
    metals: float = 0.2

    @property
    def count(self) -> int:
        return FOLDS * self.per_fold


#: Chosen once by cross-validation on the dielectric set.
KERNEL_WEIGHTS = (0.3, 0.05, 0.2)  # embedding, composition, structure
KERNEL_AMPLITUDE = 0.6
KERNEL_LINEAR = 0.5
NOISE = {"eps_electronic": 0.05, "eps_total": 0.08}


def elements() -> Elements:
    """The periodic table with the precision it is stored in."""
    return Elements(element_table().astype(np.float32).astype(float), oxidation_states())


def train(
    gaps: Examples,
    dielectric: Examples,
    blocks: tuple[int, int, int],
    card: Mapping[str, Any],
    settings: NetworkSettings | None = None,
    advance: Advance | None = None,
) -> PropertyModels:
    """Train everything and judge it by cross-validation.

    gaps: label `band_gap` (eV, 0 for a metal), the dielectric rows last; dielectric:
    labels `band_gap`, `eps_electronic`, `eps_total`. blocks: sizes of the feature blocks (embedding,
    composition, structure; of the embedding the part that the dielectric constants use). card: what the models' card says besides the figures.
    advance is called with 1 for each of `settings.count` networks.
    """
    settings = settings or NetworkSettings()
    kernel = Kernel(blocks, KERNEL_WEIGHTS, KERNEL_AMPLITUDE, KERNEL_LINEAR)
    members, gap_scaling, unseen = train_gap(gaps, settings, advance)
    truth = gaps.labels["band_gap"]
    calibration = {"insulator_logit": best_sharpness(unseen[..., 0].mean(0), truth > 0)}
    estimate = combine(unseen, calibration["insulator_logit"])
    calibration["band_gap"] = calibrate(gaps_covered(estimate, truth), truth > 0)

    dielectric = replace(dielectric, rows=dielectric_rows(dielectric.rows, card["embedding_size"]))
    logs = {name: np.log(dielectric.labels[name]) for name in DIELECTRIC}
    held_out = {name: cross_validate(kernel, dielectric, logs[name], NOISE[name]) for name in DIELECTRIC}
    every = np.ones(len(dielectric.formulas), bool)
    for name, (mean, std) in held_out.items():
        calibration[name] = calibrate(constants_covered(mean, std, dielectric.labels[name]), every)
    last = slice(len(truth) - len(dielectric.formulas), None)
    gap, gap_std = estimate.reported(calibration["band_gap"])
    merits = {}
    for name, constant in MERITS.items():
        eps = dielectric_constant(*held_out[constant], calibration[constant])
        merits[name] = Merits.of(dielectric.labels[constant], dielectric.labels["band_gap"], (gap[last], gap_std[last]), eps)
        calibration[name] = calibrate(merits[name].covered, every)
    scaling = Standardization.of(dielectric.rows)
    # as stored, so that what is trained is what predicts
    inputs = scaling(dielectric.rows).astype(np.float16).astype(float)
    processes = {name: GaussianProcess.fit(kernel, inputs, logs[name], NOISE[name]) for name in DIELECTRIC}
    scale = float(np.quantile(nearest_distance(processes["eps_electronic"], inputs, itself=True), 0.95))
    figures = {
        "gap": gap_figures(gaps, estimate, calibration["band_gap"]),
        "dielectric": dielectric_figures(dielectric, held_out, calibration),
        "applicability": applicability_figures(kernel, dielectric, held_out, scale),
        **{name: fom_figures(dielectric.folds, merit, calibration[name]) for name, merit in merits.items()},
    }
    full = {**card, "figures": figures, "networks": settings.count, "rows": {"gaps": len(truth), "dielectric": len(inputs)}}
    return PropertyModels(elements(), gap_scaling, members, scaling, processes, calibration, scale, full)


# --- the gap ------------------------------------------------------------------


def best_sharpness(logit: np.ndarray, insulator: np.ndarray) -> float:
    """The factor on logits (n,) with the least cross-entropy, metals and insulators weighing the same."""
    sign = np.where(insulator, -1.0, 1.0)
    weight = np.where(insulator, 1 / max(insulator.sum(), 1), 1 / max((~insulator).sum(), 1))
    factors = np.geomspace(0.1, 2.0, 61)
    losses = [weight @ np.logaddexp(0.0, factor * sign * logit) for factor in factors]
    return round(float(factors[int(np.argmin(losses))]), 4)


def train_gap(
    gaps: Examples, settings: NetworkSettings, advance: Advance | None
) -> tuple[Members, Standardization, np.ndarray]:
    """All networks, the scaling of their inputs, and for each row the outputs of those that had not seen its formula.

    The outputs are (settings.per_fold, n, 3).
    """
    scaling = Standardization.of(gaps.rows)
    inputs = np.clip(scaling(gaps.rows), -CLIP, CLIP).astype(np.float32)
    truth, folds = gaps.labels["band_gap"], gaps.folds
    trained: list[list[np.ndarray]] = []
    unseen = np.empty((settings.per_fold, len(truth), OUTPUTS))
    for fold in range(FOLDS):
        out = folds == fold
        for k in range(settings.per_fold):
            trained.append(train_network(inputs[~out], truth[~out], settings, seed=fold * settings.per_fold + k))
            unseen[k, out] = _stack(trained[-1:])(inputs[out])[0]
            if advance is not None:
                advance(1)
    return _stack(trained), scaling, unseen


def _stack(networks: Sequence[Sequence[np.ndarray]]) -> Members:
    """Members of the ensemble, in the precision they are stored in."""
    parts = [np.stack([network[i] for network in networks]).astype(np.float16) for i in range(6)]
    return Members(((parts[0], parts[1]), (parts[2], parts[3]), (parts[4], parts[5])))


def train_network(inputs: np.ndarray, gaps: np.ndarray, settings: NetworkSettings, seed: int) -> list[np.ndarray]:
    """Weights and biases (in, out), (out,) of three layers, trained on standardized inputs (n, d) and gaps (n,) in eV.

    The loss is the cross-entropy of metal or insulator, both classes weighing the
    same, and the Laplace likelihood of the gap of the insulators. One torch thread,
    so that the same data give the same bytes.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _optimize(torch.from_numpy(inputs), torch.from_numpy(gaps.astype(np.float32)), settings)
    finally:
        torch.set_num_threads(threads)
    layers = [layer for layer in network if isinstance(layer, torch.nn.Linear)]
    return [array.detach().numpy() for layer in layers for array in (layer.weight.T, layer.bias)]


def _optimize(inputs: Any, gaps: Any, settings: NetworkSettings) -> Any:
    import torch
    from torch import nn

    insulator = (gaps > 0).float()
    share = insulator.mean().clamp(1e-3, 1 - 1e-3)
    class_weight = torch.where(gaps > 0, 0.5 / share, 0.5 / (1 - share))
    width = settings.hidden
    network = nn.Sequential(
        nn.Dropout(settings.input_dropout),
        *(nn.Linear(inputs.shape[1], width), nn.SiLU(), nn.Dropout(settings.dropout)),
        *(nn.Linear(width, width), nn.SiLU(), nn.Dropout(settings.dropout)),
        nn.Linear(width, OUTPUTS),
    )
    batch = min(settings.batch, len(inputs))
    steps = len(inputs) // batch
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps * settings.epochs)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(inputs))[: steps * batch].view(steps, batch):
            logit, gap, log_scale = network(inputs[rows]).unbind(1)
            truth, is_insulator = gaps[rows], insulator[rows]
            decision = nn.functional.binary_cross_entropy_with_logits(logit, is_insulator, class_weight[rows])
            error = (truth - gap).abs()
            of_gap = _gap_loss(error, log_scale, settings.absolute)
            of_metal = nn.functional.relu(gap) * (1 - is_insulator)
            loss = decision + (of_gap * is_insulator).sum() / is_insulator.sum().clamp(min=1)
            loss = loss + settings.metals * of_metal.sum() / (1 - is_insulator).sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    return network.eval()


def _gap_loss(error: Any, log_scale: Any, absolute: float) -> Any:
    """Laplace likelihood of the absolute errors, a share of it with the stated scale learning from fixed errors."""
    import torch

    inverse = torch.exp(-log_scale)
    likelihood = error * inverse + log_scale
    plain = error + error.detach() * inverse + log_scale
    return (1 - absolute) * likelihood + absolute * plain


# --- the dielectric constants -------------------------------------------------


def cross_validate(kernel: Kernel, examples: Examples, targets: np.ndarray, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (n,) for each row by a process that had not seen its formula."""
    mean, std = np.empty(len(targets)), np.empty(len(targets))
    folds = examples.folds
    for fold in range(FOLDS):
        out = folds == fold
        if not out.any():
            continue
        scaling = Standardization.of(examples.rows[~out])
        process = GaussianProcess.fit(kernel, scaling(examples.rows[~out]), targets[~out], noise)
        mean[out], std[out] = process.predict(scaling(examples.rows[out]))
    return mean, std
