"""Attempts to find the structure of compositions: candidates made, their energies computed, the lowest relaxed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.crystal.tokens import Sites, primitive
from crystalformer_rl.potential.protocol import Evaluation, Potential
from crystalformer_rl.potential.relaxation import relax
from crystalformer_rl.recovery.prototypes import Candidate, Prototypes
from crystalformer_rl.recovery.recover_settings import RecoverSettings
from crystalformer_rl.recovery.second_opinion import SecondOpinion
from crystalformer_rl.tables.status import OK


@dataclass(frozen=True)
class Target:
    """A composition whose lowest energy is known.

    counts: {atomic number: atoms} of a formula unit. dft: its formation energy on the scale, expected: the same in the potential, by
    its bias; eV/atom. entries: phases of the composition that are known, None where nobody says.
    """

    formula: str
    counts: Mapping[int, int]
    dft: float
    expected: float
    entries: int | None = None


@dataclass(frozen=True)
class Tried:
    """A candidate that was relaxed, and its rank by score (0 is best).

    formation_energy: in the potential, residual: less that expected, second_residual: of the second potential, None without one; eV/atom. force_max:
    eV/Å; stress_max: GPa.
    """

    candidate: Candidate
    rank: int
    sites: Sites
    crystal: Crystal
    energy: float
    formation_energy: float
    residual: float
    force_max: float | None
    stress_max: float | None
    second_residual: float | None = None


@dataclass(frozen=True)
class Attempt:
    """What was found of a target: the candidates relaxed, how many there were, and evaluations of the first potential spent."""

    target: Target
    tried: tuple[Tried, ...]
    candidates: int
    evaluations: int


@dataclass
class Means:
    """What attempts are made with. elemental: {atomic number: eV/atom} from which formation energies count."""

    prototypes: Prototypes
    potential: Potential
    elemental: Mapping[int, float]
    settings: RecoverSettings
    second: SecondOpinion | None = None


def attempts(targets: Sequence[Target], means: Means) -> list[Attempt]:
    """An attempt for each target, in order.

    Each candidate's energy is computed once, in a cell of the volume that its elements ask for; the lowest are relaxed with
    their space group kept; then the second potential is asked for their energies as they are.
    """
    settings = means.settings
    made = [means.prototypes.candidates(target.counts, settings.candidates) for target in targets]
    flat = [primitive(candidate.sites) for candidates in made for candidate in candidates]
    outcomes = iter(means.potential.evaluate(flat, forces=False) if flat else [])
    chosen = []
    for candidates in made:
        energies = [(o.energy, k) for k in range(len(candidates)) if isinstance(o := next(outcomes), Evaluation)]
        chosen.append([k for _, k in sorted(energies)[: settings.relaxed]])
    wanted = [(t, k) for t, ranks in enumerate(chosen) for k in ranks]
    results = relax(means.potential, [made[t][k].sites for t, k in wanted], settings.relaxation)
    tried: dict[int, list[Tried]] = {t: [] for t in range(len(targets))}
    spent = [len(candidates) for candidates in made]
    for (t, k), r in zip(wanted, results, strict=True):
        spent[t] += r.evaluations
        if r.status == OK and r.energy is not None and r.sites is not None and r.crystal is not None:
            formation = r.energy - _zero(targets[t].counts, means.elemental)
            residual = formation - targets[t].expected
            tried[t].append(
                Tried(made[t][k], k, r.sites, r.crystal, r.energy, formation, residual, r.force_max, r.stress_max)
            )
    if means.second is not None:
        tried = _with_second(targets, tried, means.second)
    return [Attempt(target, tuple(tried[t]), len(made[t]), spent[t]) for t, target in enumerate(targets)]


def _with_second(
    targets: Sequence[Target], tried: Mapping[int, list[Tried]], second: SecondOpinion
) -> dict[int, list[Tried]]:
    flat = [(t, one) for t, found in tried.items() for one in found]
    residuals = second.residuals([one.crystal for _, one in flat], [targets[t].dft for t, _ in flat])
    asked: dict[int, list[Tried]] = {t: [] for t in tried}
    for (t, one), residual in zip(flat, residuals, strict=True):
        asked[t].append(replace(one, second_residual=residual))
    return asked


def _zero(counts: Mapping[int, int], elemental: Mapping[int, float]) -> float:
    return sum(n * elemental[z] for z, n in counts.items()) / sum(counts.values())
