"""Train the networks for the band gap, each row judged by networks that had not seen its formula, or its chemical family."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.properties.examples import FOLDS, Examples
from crystalformer_rl.properties.gaussian_process import CLIP
from crystalformer_rl.properties.models import Standardization
from crystalformer_rl.properties.network import OUTPUTS, Members
from crystalformer_rl.tables.parquet import atomic_path
from crystalformer_rl.tables.provenance import digest_json

Advance = Callable[[int], Any]

_ARRAYS = 6  # a network's weights and biases
_NOT_LEARNED_BY = ("per_fold", "family_epochs", "cache")


@dataclass(frozen=True)
class NetworkSettings:
    """The networks for the gap. `per_fold` networks are trained without each fold; all of them make the ensemble.

    absolute: share of the plain absolute error in the loss of the gap, beside the Laplace likelihood, which lets
    crystals with a large stated error off too lightly; metals: weight of the gap that is given to a metal.
    family_epochs: passes over the data of the networks that leave a family out; they only judge.
    cache: a folder where trained networks are kept under the digest of what they learned from.
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
    family_epochs: int = 15
    cache: str | None = None

    @property
    def count(self) -> int:
        return FOLDS * self.per_fold


@dataclass(frozen=True)
class TrainedGap:
    """The ensemble, the scaling of its inputs, and what networks said of rows that they had not seen.

    unseen: (per_fold, n, 3), outputs for each row of the networks that had not seen its formula; of a formula that is withheld
    from all, those of one fold likewise.
    """

    members: Members
    scaling: Standardization
    unseen: np.ndarray


def train_gap(gaps: Examples, settings: NetworkSettings, advance: Advance | None) -> TrainedGap:
    """All networks. Rows of withheld formulas and rows without a gap are never learned from.

    gaps: label `band_gap` (eV, 0 for a metal). advance is called with 1 for each of `settings.count` networks.
    """
    truth, folds, usable = gaps.labels["band_gap"], gaps.folds, ~gaps.withheld
    scaling = Standardization.of(gaps.rows[usable])
    inputs = scaled(scaling, gaps.rows)
    trained: list[Sequence[np.ndarray]] = []
    unseen = np.empty((settings.per_fold, len(truth), OUTPUTS))
    for fold in range(FOLDS):
        out = folds == fold
        for k in range(settings.per_fold):
            seen = usable & ~out
            trained.append(kept_network(inputs[seen], truth[seen], settings, fold * settings.per_fold + k))
            unseen[k, out] = stack(trained[-1:])(inputs[out])[0]
            if advance is not None:
                advance(1)
    return TrainedGap(stack(trained), scaling, unseen)


def without_families(
    gaps: Examples, families: Sequence[str], settings: NetworkSettings, advance: Advance | None = None
) -> np.ndarray:
    """Outputs (1, n, 3) of one network a family, trained more briefly, for the rows of the family that it had not seen.

    families: (n,) the family of each row. advance is called with 1 for each network.
    """
    truth, usable, family = gaps.labels["band_gap"], ~gaps.withheld, np.array(families)
    settings = replace(settings, epochs=min(settings.epochs, settings.family_epochs))
    outputs = np.empty((1, len(truth), OUTPUTS))
    for name in sorted(set(families)):
        out = family == name
        seen = usable & ~out
        scaling = Standardization.of(gaps.rows[seen])
        network = kept_network(scaled(scaling, gaps.rows[seen]), truth[seen], settings, seed=0)
        outputs[0, out] = stack([network])(scaled(scaling, gaps.rows[out]))[0]
        if advance is not None:
            advance(1)
    return outputs


def scaled(scaling: Standardization, rows: np.ndarray) -> np.ndarray:
    """Inputs (n, d) of the networks, as they learn from them, from features (n, d)."""
    return np.clip(scaling(rows), -CLIP, CLIP).astype(np.float32)


def stack(networks: Sequence[Sequence[np.ndarray]]) -> Members:
    """Members of the ensemble, in the precision they are stored in."""
    parts = [np.stack([network[i] for network in networks]).astype(np.float16) for i in range(_ARRAYS)]
    return Members(((parts[0], parts[1]), (parts[2], parts[3]), (parts[4], parts[5])))


def kept_network(inputs: np.ndarray, gaps: np.ndarray, settings: NetworkSettings, seed: int) -> Sequence[np.ndarray]:
    """`train_network`, from the settings' cache where the same network was trained before."""
    if settings.cache is None:
        return train_network(inputs, gaps, settings, seed)
    learning = {name: value for name, value in asdict(settings).items() if name not in _NOT_LEARNED_BY}
    key = digest_json([*(hashlib.sha256(part.tobytes()).hexdigest() for part in (inputs, gaps)), learning, seed])
    file = Path(settings.cache) / f"network-{key[:24]}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as stored:
            return [stored[f"arr_{i}"] for i in range(_ARRAYS)]
    network = train_network(inputs, gaps, settings, seed)
    with atomic_path(file) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, *network)
    return network


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


def best_sharpness(logit: np.ndarray, insulator: np.ndarray) -> float:
    """The factor on logits (n,) with the least cross-entropy, metals and insulators weighing the same."""
    sign = np.where(insulator, -1.0, 1.0)
    weight = np.where(insulator, 1 / max(insulator.sum(), 1), 1 / max((~insulator).sum(), 1))
    factors = np.geomspace(0.1, 2.0, 61)
    losses = [weight @ np.logaddexp(0.0, factor * sign * logit) for factor in factors]
    return round(float(factors[int(np.argmin(losses))]), 4)
