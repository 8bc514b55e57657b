"""CHGNet (B. Deng et al., Nature Machine Intelligence 5, 1031, 2023), evaluated in batches.

The weights are those of the `chgnet` package; the graph and the forward pass are
laid out here for speed: one index array for a whole batch, first layers of the
gated perceptrons applied before features are gathered to bonds and angles, no
layer whose result is unused, and gradients with respect to bond vectors only,
from which forces and stress follow. Energies agree with the package's to float32
rounding.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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

#: Our names, the package's names, and the scale of the training energies.
MODELS = {
    "chgnet": ("0.3.0", Functional.PBE, Corrections.MP2020),
    "chgnet-r2scan": ("r2scan", Functional.R2SCAN, Corrections.NONE),
}
EMBEDDING_SIZE = 2 * 3 * 64 + 3
_SUPPORTED = frozenset(range(1, 95))

_ROWS = 120_000  # on a CPU


class CHGNet:
    """CHGNet as a `Potential`.

    name: `chgnet` (0.3.0) or `chgnet-r2scan`. rows: upper limit of bonds plus angles in one pass,
    which bounds memory, by default what the device holds; a crystal that has more passes alone. most_atoms: larger cells are `too_large`.
    """

    def __init__(
        self, name: str = "chgnet", *, rows: int | None = None, most_atoms: int = MOST_ATOMS, device: str = CPU
    ) -> None:
        self.name = name
        self._most_atoms = most_atoms
        self._device = torch.device(torch_device(device))
        self._model = _load(MODELS[name][0]).to(self._device)
        self._rows = rows or rows_that_fit(device, _ROWS)
        self._network = _Network(self._model)
        self._cutoff = float(self._model.model_args["atom_graph_cutoff"])
        self._angle_cutoff = float(self._model.model_args["bond_graph_cutoff"])

    @cached_property
    def identity(self) -> PotentialIdentity:
        """Name, digest of the weights as loaded, scale of the training energies."""
        digest = hashlib.sha256()
        for key, value in sorted(self._model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.cpu().numpy().tobytes())
        version, functional, corrections = MODELS[self.name]
        return PotentialIdentity(f"CHGNet {version}", digest.hexdigest(), functional, corrections)

    def evaluate(self, crystals: Sequence[Crystal], *, forces: bool = True) -> list[Outcome]:
        """One outcome a crystal; see `Potential`."""
        outcomes, graphs = self._graphs(crystals)

        def run(part: list[int]) -> list[Outcome]:
            return self._evaluate_batch(join([crystals[i] for i in part], [graphs[i] for i in part]), forces)

        for i, outcome in run_packs(graphs, self._rows, run).items():
            outcomes[i] = outcome
        return outcomes

    def embed(self, crystals: Sequence[Crystal]) -> np.ndarray:
        """Means and standard deviations of the atoms' features, and three numbers of the magnetic read-out: (crystals, 387).

        An atom's features, 64 each: before the read-out perceptron, before the last convolution, and the sum of its
        bonds' features. The first 64 columns are the means of the first; the last three are mean, standard
        deviation and maximum of the magnetic read-out, whose absolute value is the predicted moment (μB).
        """
        _, graphs = self._graphs(crystals)
        result = np.full((len(crystals), EMBEDDING_SIZE), np.nan)

        def run(part: list[int]) -> list[np.ndarray]:
            batch = join([crystals[i] for i in part], [graphs[i] for i in part])
            with torch.inference_mode():
                features, moments = self._network.atom_features(batch, self._vectors(batch))
            return _statistics(batch, features.cpu().double().numpy(), moments.cpu().double().numpy())

        for i, row in run_packs(graphs, self._rows, run).items():
            if not isinstance(row, str):
                result[i] = row
        return result

    def _graphs(self, crystals: Sequence[Crystal]) -> tuple[list[Outcome], dict[int, CrystalGraph]]:
        def build(crystal: Crystal) -> CrystalGraph:
            return crystal_graph(crystal, self._cutoff, self._angle_cutoff)

        return screened_graphs(crystals, build, supported=_SUPPORTED, most_atoms=self._most_atoms)

    def _vectors(self, batch: BatchGraph) -> Tensor:
        return torch.as_tensor(batch.vectors, dtype=torch.float32, device=self._device)

    def _evaluate_batch(self, batch: BatchGraph, forces: bool) -> list[Outcome]:
        vectors = self._vectors(batch)
        if not forces:
            with torch.inference_mode():
                energies = self._network(batch, vectors)
            return [checked(Evaluation(e)) for e in (energies.cpu().double().numpy() / batch.counts).tolist()]
        vectors.requires_grad_(True)
        energies = self._network(batch, vectors)
        (gradient,) = torch.autograd.grad(energies.sum(), vectors)
        f, s = forces_and_stresses(batch, gradient.cpu().double().numpy())
        e = (energies.detach().cpu().double().numpy() / batch.counts).tolist()
        split = np.split(f, np.cumsum(batch.counts)[:-1])
        return [checked(Evaluation(*each)) for each in zip(e, split, s, strict=True)]


def _load(version: str) -> Any:
    """The package's model with frozen weights; its greetings on standard output are swallowed."""
    with contextlib.redirect_stdout(io.StringIO()):
        from chgnet.model import CHGNet as Package

        model = Package.load(model_name=version, use_device="cpu", verbose=False)
    return model.eval().requires_grad_(False)


def _statistics(batch: BatchGraph, features: np.ndarray, moments: np.ndarray) -> list[np.ndarray]:
    """The row of `CHGNet.embed` of each crystal, from features (N, 192) and moments (N,) of the batch's atoms."""
    bounds = np.cumsum(batch.counts)[:-1]
    pairs = zip(np.split(features, bounds), np.split(moments, bounds), strict=True)
    return [np.concatenate([f.mean(0), f.std(0), [m.mean(), m.std(), m.max()]]) for f, m in pairs]


class _Pass(NamedTuple):
    """What a forward pass leaves: atoms (N, 64) before the read-out and before the last convolution, bonds (U, 64) and
    their weights (U, 64).
    """

    atoms: Tensor
    earlier: Tensor
    bonds: Tensor
    weights: Tensor


class _Network:
    """The forward pass: atoms, bonds and angles of a batch to total energies and features."""

    def __init__(self, model: Any) -> None:
        self.model = model
        radial = model.bond_basis_expansion
        self.bessel = (radial.rbf_expansion_ag, radial.rbf_expansion_bg)
        self.atom_convs = [_Gated(layer.twoBody_atom, (64, 64, 64)) for layer in model.atom_conv_layers]
        self.bond_convs = [_Gated(layer.twoBody_bond, (64, 64, 64, 64)) for layer in model.bond_conv_layers]
        self.angle_updates = [_Gated(layer.twoBody_bond, (64, 64, 64, 64)) for layer in model.angle_layers]
        self.reference = model.composition_model.fc.weight[0]

    def __call__(self, batch: BatchGraph, vectors: Tensor) -> Tensor:
        """Total energies (B,) in eV."""
        numbers, owner = (torch.as_tensor(a, device=vectors.device) for a in (batch.numbers, batch.owner))
        atoms = self._forward(batch, vectors).atoms
        site_energies = self.model.mlp(atoms)[:, 0] + self.reference[numbers - 1]
        return torch.zeros(len(batch.counts), device=vectors.device).index_add_(0, owner, site_energies)

    def atom_features(self, batch: BatchGraph, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 192) of the atoms and the magnetic read-out (N,), which is signed: its absolute value is the moment in μB."""
        first, second = (torch.as_tensor(a, device=vectors.device) for a in (batch.first, batch.second))
        found = self._forward(batch, vectors)
        weighted = found.bonds * found.weights
        bonds = torch.zeros_like(found.atoms).index_add(0, first, weighted).index_add(0, second, weighted)
        return torch.cat([found.atoms, found.earlier, bonds], dim=1), self.model.site_wise(found.earlier)[:, 0]

    def _forward(self, batch: BatchGraph, vectors: Tensor) -> _Pass:
        model, n_short = self.model, batch.n_short
        device = vectors.device
        numbers, first, second = (torch.as_tensor(a, device=device) for a in (batch.numbers, batch.first, batch.second))
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        radial = self.bessel[0](lengths)
        atoms = model.atom_embedding(numbers - 1)
        bonds = model.bond_embedding(radial)
        weights = model.bond_weights_ag(radial)
        angles = None
        if len(batch.angle_center):
            angles = _Angles(model, self.bessel[1], batch, vectors[:n_short], lengths[:n_short])

        earlier = atoms
        for k, convolution in enumerate(self.atom_convs):
            earlier = atoms
            atoms = atoms + self._atom_message(k, convolution, atoms, bonds, weights, first, second)
            if k == len(self.atom_convs) - 1:
                break
            if angles is not None:
                short = bonds[:n_short]
                short = short + model.bond_conv_layers[k].mlp_out(angles.message(self.bond_convs[k], short, atoms))
                bonds = torch.cat([short, bonds[n_short:]])
                # The last update of the angles would reach nothing: only an atom convolution follows.
                if k < len(self.bond_convs) - 1:
                    angles.update(self.angle_updates[k], short, atoms)

        if model.readout_norm is not None:
            atoms = model.readout_norm(atoms)
        return _Pass(atoms, earlier, bonds, weights)

    def _atom_message(
        self, k: int, gated: _Gated, atoms: Tensor, bonds: Tensor, weights: Tensor, first: Tensor, second: Tensor
    ) -> Tensor:
        """Messages along both directions of every bond, summed at their centres."""
        center, bond, neighbor = gated.first_layer((atoms, bonds, atoms))
        there = gated.rest(center[first] + bond + neighbor[second]) * weights
        back = gated.rest(center[second] + bond + neighbor[first]) * weights
        summed = torch.zeros_like(atoms).index_add(0, first, there).index_add(0, second, back)
        return self.model.atom_conv_layers[k].mlp_out(summed)


class _Angles:
    """Angles of a batch: their features, and the messages that they carry to short bonds."""

    def __init__(self, model: Any, bessel: Any, batch: BatchGraph, vectors: Tensor, lengths: Tensor) -> None:
        device = vectors.device
        self.center = torch.as_tensor(batch.angle_center, device=device)
        self.left = torch.as_tensor(np.ascontiguousarray(batch.angle_bonds[:, 0]), device=device)
        self.right = torch.as_tensor(np.ascontiguousarray(batch.angle_bonds[:, 1]), device=device)
        sign = torch.as_tensor(batch.angle_signs.prod(1), dtype=torch.float32, device=device)
        unit = vectors / lengths[:, None]
        # The factor keeps the arc cosine's slope finite for straight angles, as in training.
        angle = torch.acos(((unit[self.left] * unit[self.right]).sum(1) * sign) * (1 - 1e-6))
        self.features = model.angle_embedding(_fourier(angle, model.angle_basis_expansion.fourier_expansion.frequencies))
        self.weights = model.bond_weights_bg(bessel(lengths))

    def _inner(self, gated: _Gated, bonds: Tensor, atoms: Tensor) -> Tensor:
        left, right, angle, center = gated.first_layer((bonds, bonds, self.features, atoms))
        return gated.rest(left[self.left] + right[self.right] + angle + center[self.center])

    def message(self, gated: _Gated, bonds: Tensor, atoms: Tensor) -> Tensor:
        weights = self.weights[self.left] * self.weights[self.right]
        return torch.zeros_like(bonds).index_add(0, self.left, self._inner(gated, bonds, atoms) * weights)

    def update(self, gated: _Gated, bonds: Tensor, atoms: Tensor) -> None:
        self.features = self.features + self._inner(gated, bonds, atoms)


def _fourier(angle: Tensor, frequencies: Tensor) -> Tensor:
    """(A, 1 + 2K): constant, sines, cosines, as CHGNet expands an angle."""
    phase = torch.outer(angle, frequencies)
    constant = torch.full_like(angle[:, None], 1 / math.sqrt(2))
    return torch.cat([constant, torch.sin(phase), torch.cos(phase)], dim=1) / math.sqrt(math.pi)


class _Gated:
    """A gated perceptron of the package with its core and gate side by side.

    The first layer is linear in the concatenated inputs, so each input is multiplied by its own block before it
    is gathered to bonds or angles: far fewer rows.
    """

    def __init__(self, module: Any, widths: tuple[int, ...]) -> None:
        core = [layer for layer in module.mlp_core.layers if isinstance(layer, torch.nn.Linear)]
        gate = [layer for layer in module.mlp_gate.layers if isinstance(layer, torch.nn.Linear)]
        weight = torch.cat([core[0].weight, gate[0].weight])
        self.blocks = [block.contiguous() for block in weight.split(widths, dim=1)]
        self.bias = torch.cat([core[0].bias, gate[0].bias])
        self.second = (core[1], gate[1]) if len(core) > 1 else None
        self.norms = (module.bn1, module.bn2)
        self.width = core[0].out_features

    def first_layer(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Each input times its block of the first layer; the bias goes with the first."""
        biases = (self.bias, *([None] * (len(inputs) - 1)))
        return [F.linear(x, block, bias) for x, block, bias in zip(inputs, self.blocks, biases, strict=True)]

    def rest(self, hidden: Tensor) -> Tensor:
        """From the first layer's sum (rows, 2 · width) to the gated output (rows, width)."""
        if self.second is not None:
            hidden = F.silu(hidden)
            core, gate = (layer(x) for layer, x in zip(self.second, hidden.split(self.width, dim=1), strict=True))
        else:
            core, gate = hidden.split(self.width, dim=1)
        return F.silu(self.norms[0](core)) * torch.sigmoid(self.norms[1](gate))
