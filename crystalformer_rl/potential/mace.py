"""MACE (I. Batatia et al., NeurIPS 2022) from a checkpoint file, evaluated in batches.

A MACE checkpoint is a pickled torch module, and unpickling runs code: load only files whose origin
you trust, such as those that `fetch` has verified.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.potential.graph import CrystalGraph, crystal_graph, run_packs, screened_graphs
from crystalformer_rl.potential.protocol import MOST_ATOMS, Evaluation, Outcome, checked
from crystalformer_rl.potential.torch_device import rows_that_fit, torch_device
from crystalformer_rl.reference.identity import Functional, PotentialIdentity
from crystalformer_rl.tables.provenance import sha256

_FUNCTIONAL_OF_HEAD = {"matpes_r2scan": Functional.R2SCAN}
"""Heads of published models whose name says the functional that they learned."""

_ROWS = 20_000  # on a CPU


class Mace:
    """A MACE model as a `Potential`.

    path: the checkpoint; head: of a model with several, `default` or the last one unless named; rows: upper limit of
    directed bonds in one pass, which bounds memory, by default what the device holds. Raises InputError for a file that holds no MACE model.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        head: str | None = None,
        rows: int | None = None,
        most_atoms: int = MOST_ATOMS,
        device: str = CPU,
    ) -> None:
        self._path = Path(path)
        self._most_atoms = most_atoms
        self._device = torch.device(torch_device(device))
        self._model = _read(self._path).to(self._device)
        self._rows = rows or rows_that_fit(device, _ROWS)
        self._dtype = next(self._model.parameters()).dtype
        self._numbers = [int(z) for z in self._model.atomic_numbers]
        self._cutoff = float(self._model.r_max)
        heads = list(getattr(self._model, "heads", None) or ["Default"])
        if head is not None and head not in heads:
            raise InputError(f"{path} has no head '{head}'; it has {', '.join(heads)}.")
        lowered = [name.lower() for name in heads]
        self._head = heads.index(head) if head else lowered.index("default") if "default" in lowered else len(heads) - 1
        self._head_name = heads[self._head]

    @cached_property
    def identity(self) -> PotentialIdentity:
        """Name from the file, digest of the file, and the head, which is a choice of training energies.

        A file does not say which corrections its training energies had.
        """
        functional = _FUNCTIONAL_OF_HEAD.get(self._head_name.lower(), Functional.UNKNOWN)
        return PotentialIdentity(
            f"MACE {self._path.stem}", sha256(self._path), functional, variant=f"head {self._head_name}"
        )

    def evaluate(self, crystals: Sequence[Crystal], *, forces: bool = True) -> list[Outcome]:
        """One outcome a crystal; see `Potential`."""
        outcomes, graphs = self._graphs(crystals)

        def run(part: list[int]) -> list[Outcome]:
            return self._evaluate_batch(crystals, graphs, part, forces)

        for i, outcome in run_packs(graphs, self._rows, run).items():
            outcomes[i] = outcome
        return outcomes

    def _evaluate_batch(
        self, crystals: Sequence[Crystal], graphs: dict[int, CrystalGraph], part: list[int], forces: bool
    ) -> list[Outcome]:
        counts = [len(crystals[i]) for i in part]
        with _default_dtype(self._dtype):
            out = self._model(self._batch(crystals, graphs, part), compute_force=forces, compute_stress=forces)
        energies = (_numpy(out["energy"]) / counts).tolist()
        if not forces:
            return [checked(Evaluation(e)) for e in energies]
        split = np.split(_numpy(out["forces"]), np.cumsum(counts)[:-1])
        stress = _numpy(out["stress"]).reshape(-1, 3, 3)
        symmetric = 0.5 * (stress + stress.transpose(0, 2, 1))
        return [checked(Evaluation(*each)) for each in zip(energies, split, symmetric, strict=True)]

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Means and standard deviations over atoms of the invariant features of all layers: (crystals, 2 · layers · channels)."""
        _, graphs = self._graphs(crystals)

        def run(part: list[int]) -> list[np.ndarray]:
            with _default_dtype(self._dtype):
                out = self._model(self._batch(crystals, graphs, part), compute_force=False)
            features = self._invariant(_numpy(out["node_feats"]))
            pieces = np.split(features, np.cumsum([len(crystals[i]) for i in part])[:-1])
            return [np.concatenate([piece.mean(0), piece.std(0)]) for piece in pieces]

        found = run_packs(graphs, self._rows, run)
        rows = {i: row for i, row in found.items() if not isinstance(row, str)}
        width = len(next(iter(rows.values()))) if rows else 0
        return np.stack([rows.get(i, np.full(width, np.nan)) for i in range(len(crystals))])

    def _invariant(self, features: np.ndarray) -> np.ndarray:
        """The scalar part of each layer's features; equivariant parts turn with the crystal and are left out."""
        pieces, start = [], 0
        for product in self._model.products:
            irreps = product.linear.irreps_out
            scalars = sum(multiple for multiple, irrep in irreps if irrep.l == 0)
            pieces.append(features[:, start : start + scalars])
            start += irreps.dim
        return np.concatenate(pieces, axis=1)

    def _graphs(self, crystals: Sequence[Crystal]) -> tuple[list[Outcome], dict[int, CrystalGraph]]:
        return screened_graphs(
            crystals,
            lambda c: crystal_graph(c, self._cutoff),
            supported=frozenset(self._numbers),
            most_atoms=self._most_atoms,
        )

    def _batch(self, crystals: Sequence[Crystal], graphs: dict[int, CrystalGraph], part: list[int]) -> dict[str, Tensor]:
        """The dictionary that a MACE model's forward pass reads."""
        counts = np.array([len(crystals[i]) for i in part])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        senders, receivers, units, shifts = [], [], [], []
        for i, offset in zip(part, offsets, strict=False):
            g = graphs[i]
            image = np.concatenate([-g.image, g.image])
            # A MACE edge vector is r_receiver - r_sender + shift: first a pair, then its reverse.
            senders.append(np.concatenate([g.second, g.first]) + offset)
            receivers.append(np.concatenate([g.first, g.second]) + offset)
            units.append(image)
            shifts.append(image @ np.asarray(crystals[i].lattice, float))
        index = {z: k for k, z in enumerate(self._numbers)}
        kinds = [index[int(z)] for i in part for z in crystals[i].atomic_numbers]

        def real(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=self._dtype, device=self._device)

        def whole(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=torch.long, device=self._device)

        return {
            "positions": real(np.concatenate([graphs[i].positions for i in part])),
            "node_attrs": real(np.eye(len(self._numbers))[kinds]),
            "edge_index": whole(np.stack([np.concatenate(senders), np.concatenate(receivers)])),
            "unit_shifts": real(np.concatenate(units)),
            "shifts": real(np.concatenate(shifts)),
            "cell": real(np.concatenate([np.asarray(crystals[i].lattice, float) for i in part])),
            "batch": whole(np.repeat(np.arange(len(part)), counts)),
            "ptr": whole(offsets),
            "head": whole(np.full(len(part), self._head)),
        }


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"the MACE checkpoint {path} does not exist; check the path, or `crystalformer-rl fetch` one.")
    _import_e3nn()
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    # Unpickling runs what the bytes say; those of another file may raise anything.
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise InputError(f"{path} cannot be loaded as a MACE checkpoint ({reason}); give a .model file.") from error
    if not all(hasattr(model, name) for name in ("r_max", "atomic_numbers", "products")):
        raise InputError(f"{path} holds a {type(model).__name__}, not a MACE model; give a .model file.")
    return model.eval().requires_grad_(False)


def _import_e3nn() -> None:
    """Import e3nn, which MACE's modules need; torch must be told to trust the `slice` in its file of constants."""
    with torch.serialization.safe_globals([slice]):
        importlib.import_module("e3nn.o3")


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """MACE makes some tensors in torch's default precision; it has to be the model's meanwhile."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
