"""Train the Gaussian processes for the dielectric constants, and judge them on formulas or families that they had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crystalformer_rl.properties.anisotropy import Anisotropy
from crystalformer_rl.properties.examples import Examples
from crystalformer_rl.properties.gaussian_process import GaussianProcess, Kernel
from crystalformer_rl.properties.models import IONIC, IONIC_OFFSET, Standardization, log_constants, nearest_distance

#: Chosen once by cross-validation on the dielectric set.
KERNEL_WEIGHTS = (0.3, 0.1, 0.4)  # embedding, composition, structure
KERNEL_AMPLITUDE = 0.4
KERNEL_LINEAR = 0.5
NOISE = {"eps_electronic": 0.03, "eps_total": 0.05, IONIC: 0.08}


@dataclass(frozen=True)
class DielectricSet:
    """Crystals with dielectric constants: those with all labels first, then those with the electronic constant alone.

    examples: the features that the processes use, labels band_gap, eps_electronic, eps_total (NaN where unknown);
    orientations: (n, K, 3, 3) tensors of their structure; deviators: (n, 3, 3) of ln ε_electronic, NaN where unknown.
    """

    examples: Examples
    orientations: np.ndarray
    deviators: np.ndarray

    @property
    def complete(self) -> np.ndarray:
        """(n,) bool: with ε_total and a tensor."""
        return np.isfinite(self.examples.labels["eps_total"])

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """What each process learns (n,), NaN where unknown."""
        electronic, total = (self.examples.labels[name] for name in ("eps_electronic", "eps_total"))
        ionic = np.log(np.maximum(total - electronic, 0.0) + IONIC_OFFSET)
        return {"eps_electronic": np.log(electronic), "eps_total": np.log(total), IONIC: ionic}

    def take(self, rows: np.ndarray) -> DielectricSet:
        """Some of them: a mask (n,)."""
        return DielectricSet(self.examples.take(rows), self.orientations[rows], self.deviators[rows])


@dataclass(frozen=True)
class Unseen:
    """What models say of crystals that they had not seen.

    logs: of each dielectric constant, mean (n,) and deviation (n,) of the logarithm; distance: (n,) to the nearest crystal that
    they had seen, in the kernel's metric; deviators: (n, 3, 3) of ln ε_electronic.
    """

    logs: Mapping[str, tuple[np.ndarray, np.ndarray]]
    distance: np.ndarray
    deviators: np.ndarray


def kernel_of(blocks: tuple[int, int, int]) -> Kernel:
    """The kernel for features in blocks (embedding, composition, structure) of these sizes."""
    return Kernel(blocks, KERNEL_WEIGHTS, KERNEL_AMPLITUDE, KERNEL_LINEAR)


def fit(kernel: Kernel, data: DielectricSet, inputs: np.ndarray) -> tuple[dict[str, GaussianProcess], Anisotropy]:
    """The processes and the anisotropy from standardized features (n, d) of all of `data`."""
    processes = {}
    for name, target in data.targets.items():
        known = np.isfinite(target)
        processes[name] = GaussianProcess.fit(kernel, inputs[known], target[known], NOISE[name])
    known = data.complete
    return processes, Anisotropy.fit(kernel, inputs[known], data.orientations[known], data.deviators[known])


def judged(
    kernel: Kernel, data: DielectricSet, groups: Sequence[str] | np.ndarray, seen: DielectricSet | None = None
) -> Unseen:
    """Each crystal of `data` by models that learned from the other groups, never from withheld formulas.

    groups: (n,) the fold or family of each crystal. seen: the same crystals as they are learned from, where those to be judged
    have another geometry.
    """
    seen = data if seen is None else seen
    group, usable = np.array(groups), ~seen.examples.withheld
    n = len(group)
    logs = {name: (np.empty(n), np.empty(n)) for name in ("eps_electronic", "eps_total")}
    distance, deviators = np.empty(n), np.empty((n, 3, 3))
    for name in np.unique(group):
        out = group == name
        learned = seen.take(usable & ~out)
        scaling = Standardization.of(learned.examples.rows)
        processes, anisotropy = fit(kernel, learned, scaling(learned.examples.rows))
        rows = scaling(data.examples.rows[out])
        for key, (mean, std) in log_constants({k: process.predict(rows) for k, process in processes.items()}).items():
            logs[key][0][out], logs[key][1][out] = mean, std
        distance[out] = nearest_distance(processes["eps_electronic"], rows)
        deviators[out] = anisotropy.deviators(rows, data.orientations[out])
    return Unseen(logs, distance, deviators)
