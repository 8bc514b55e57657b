"""SevenNet (Y. Park et al., Journal of Chemical Theory and Computation 20, 4857, 2024), evaluated in batches.

The weights are those of the `sevenn` package: `sevennet-0` (7net-0, 11 July 2024) and the more accurate `sevennet-l3i5`, which learned
energies of the Materials Project (PBE and PBE+U as it mixes them) without corrections. The package's modules run over the bond
vectors of a whole batch; its last one, which differentiates by atomic positions, is left out: forces and stresses follow from the
gradient by the bond vectors, half as many as directed edges.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.potential.graph import (
    BatchGraph,
    CrystalGraph,
    crystal_graph,
    forces_and_stresses,
    join,
    run_packs,
    screened_graphs,
)
from crystalformer_rl.potential.protocol import MOST_ATOMS, Evaluation, Outcome, checked
from crystalformer_rl.potential.torch_device import rows_that_fit, torch_device
from crystalformer_rl.reference.identity import Corrections, Functional, PotentialIdentity

MODELS = {"sevennet-0": "7net-0", "sevennet-l3i5": "7net-l3i5"}
"""Our names and the package's."""

_ROWS = 10_000  # on a CPU


class SevenNet:
    """SevenNet as a `Potential`.

    name: `sevennet-0` or `sevennet-l3i5`. rows: upper limit of directed bonds in one pass, which bounds memory, by default what the device holds; a crystal that
    has more passes alone. most_atoms: larger cells are `too_large`.
    """

    def __init__(
        self, name: str = "sevennet-0", *, rows: int | None = None, most_atoms: int = MOST_ATOMS, device: str = CPU
    ) -> None:
        self.name = name
        self._most_atoms = most_atoms
        self._device = torch.device(torch_device(device))
        self._model = _load(MODELS[name]).to(self._device)
        self._rows = rows or rows_that_fit(device, _ROWS)
        self._cutoff = float(self._model.cutoff)
        self._kinds = {int(z): int(k) for z, k in self._model.type_map.items()}

    @cached_property
    def identity(self) -> PotentialIdentity:
        """Name, digest of the weights as loaded, scale of the training energies."""
        digest = hashlib.sha256()
        for key, value in sorted(self._model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.cpu().numpy().tobytes())
        return PotentialIdentity(f"SevenNet {MODELS[self.name]}", digest.hexdigest(), Functional.PBE, Corrections.NONE)

    def evaluate(self, crystals: Sequence[Crystal], *, forces: bool = True) -> list[Outcome]:
        """One outcome a crystal; see `Potential`."""
        outcomes, graphs = self._graphs(crystals)

        def run(part: list[int]) -> list[Outcome]:
            return self._evaluate_batch(join([crystals[i] for i in part], [graphs[i] for i in part]), forces)

        for i, outcome in run_packs(graphs, self._rows, run).items():
            outcomes[i] = outcome
        return outcomes

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Means and standard deviations over atoms of the invariant features before the read-out: (crystals, 2 · channels)."""
        _, graphs = self._graphs(crystals)

        def run(part: list[int]) -> list[np.ndarray]:
            batch = join([crystals[i] for i in part], [graphs[i] for i in part])
            with torch.inference_mode():
                features = self._forward(batch, self._vectors(batch), until="reduce_input_to_hidden")["x"]
            pieces = np.split(features.cpu().double().numpy(), np.cumsum(batch.counts)[:-1])
            return [np.concatenate([piece.mean(0), piece.std(0)]) for piece in pieces]

        found = {i: row for i, row in run_packs(graphs, self._rows, run).items() if not isinstance(row, str)}
        width = len(next(iter(found.values()))) if found else 0
        return np.stack([found.get(i, np.full(width, np.nan)) for i in range(len(crystals))])

    def _graphs(self, crystals: Sequence[Crystal]) -> tuple[list[Outcome], dict[int, CrystalGraph]]:
        return screened_graphs(
            crystals,
            lambda c: crystal_graph(c, self._cutoff),
            supported=frozenset(self._kinds),
            most_atoms=self._most_atoms,
        )

    def _vectors(self, batch: BatchGraph) -> Tensor:
        return torch.as_tensor(batch.vectors, dtype=torch.float32, device=self._device)

    def _evaluate_batch(self, batch: BatchGraph, forces: bool) -> list[Outcome]:
        vectors = self._vectors(batch)
        if not forces:
            with torch.inference_mode():
                energies = self._forward(batch, vectors)["inferred_total_energy"]
            return [checked(Evaluation(e)) for e in (energies.cpu().double().numpy() / batch.counts).tolist()]
        vectors.requires_grad_(True)
        energies = self._forward(batch, vectors)["inferred_total_energy"]
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        f, s = forces_and_stresses(batch, gradient.cpu().double().numpy())
        e = (energies.detach().cpu().double().numpy() / batch.counts).tolist()
        split = np.split(f, np.cumsum(batch.counts)[:-1])
        return [checked(Evaluation(*each)) for each in zip(e, split, s, strict=True)]

    def _forward(self, batch: BatchGraph, vectors: Tensor, until: str = "") -> dict[str, Tensor]:
        """The package's modules one after the other, over both directions of every bond; up to the one named `until`."""

        def whole(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=torch.long, device=self._device)

        first, second = whole(batch.first), whole(batch.second)
        data: dict[str, Tensor] = {
            "atomic_numbers": whole(batch.numbers),
            "x": whole(np.array([self._kinds[int(z)] for z in batch.numbers])),
            # An edge vector of the package runs from its first atom to its second, ours the other way.
            "edge_index": torch.stack([torch.cat([first, second]), torch.cat([second, first])]),
            "edge_vec": torch.cat([-vectors, vectors]),
            "batch": whole(batch.owner),
            "num_atoms": whole(batch.counts),
        }
        for key, module in self._model.named_children():
            if key in (until, "force_output"):
                break
            data = module(data)
        return data


def _load(name: str) -> Any:
    """The package's model with frozen weights; its greetings and its advice on accelerators are swallowed."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sevenn.util import load_checkpoint

        model = load_checkpoint(name).build_model()
    model.set_is_batch_data(True)
    return model.eval().requires_grad_(False)
