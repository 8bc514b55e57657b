"""The score of sampled crystals: figures from a worker, distances to the hull, what is known, rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from crystalformer_rl.crystal.structure import crystal_columns
from crystalformer_rl.crystal.tokens import Sites, primitive, sites_from_table, token_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.rollout import Scores
from crystalformer_rl.hull.chances import Chances
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.hull.hull_table import row_status
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.potential.devices import CPU
from crystalformer_rl.potential.foreign_hull import placed
from crystalformer_rl.potential.pool import WorkerPool
from crystalformer_rl.reference.corrections import MP2020, corrected
from crystalformer_rl.reference.energies import read_energies
from crystalformer_rl.reference.identity import PotentialIdentity
from crystalformer_rl.rewards.algebra import Reward
from crystalformer_rl.rewards.reward_settings import RewardSettings
from crystalformer_rl.rewards.scored_batch import ENERGY, FORCE, NEW_FORMULA, NOVELTY, PROPERTIES, STABILITY, Batch
from crystalformer_rl.scoring.groups import ANSWERS, FUNCTIONS
from crystalformer_rl.scoring.known_kinds import KnownKinds, known_kinds
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import CRYSTALS, CRYSTALS_AND_TOKENS, SITE_FRAC_COORDS, STATUS
from crystalformer_rl.tables.figure_columns import FIGURES
from crystalformer_rl.tables.status import OK, Status

_FIGURES = tuple(column.name for column in FIGURES)
_EVALUATED = (OK, Status.POTENTIAL_FAILED, Status.OUT_OF_MEMORY)
"""Statuses of crystals that the potential was evaluated for; others are refused before."""

_NEAR_REST = 1.0
"""eV/atom above the hull; from further up a step leads anywhere."""

Worker = PotentialWorker | WorkerPool
"""Who evaluates crystals."""


class Scorer:
    """The score of a batch by the figures of the crystals as sampled.

    The energies must come from the potential that `hull.identity` names; whoever makes the worker checks it. Figures
    that cost more than an energy are computed for those crystals alone whose reward depends on them. models: file of the
    property models, chances: what makes probabilities of distances, where the reward needs them;
    scheme: of corrections to the potential's energies, where they have none and the hull has. max_evaluations: of relaxation
    before the figures are taken; ahead: say where one more step would lead, at the price of forces. `advance` is called with the number of crystals just evaluated.
    """

    def __init__(
        self,
        worker: Worker,
        hull: Hull,
        reward: Reward,
        known: KnownKinds,
        models: str | None = None,
        chances: Chances | None = None,
        scheme: MP2020 | None = None,
        *,
        max_evaluations: int = 1,
        ahead: bool = False,
    ) -> None:
        self._worker, self._hull, self._reward, self._known = worker, hull, reward, known
        self._models, self._chances, self._scheme = models, chances, scheme
        self._max_evaluations = max_evaluations
        self._walks = ahead or max_evaluations > 1
        self._everywhere = FORCE if self._walks or reward.needs_everywhere(FORCE) else ENERGY
        self._later = [group for group in (PROPERTIES, FORCE) if group in reward.needs and group != self._everywhere]
        self.advance: Callable[[int], object] | None = None

    def __call__(self, sites: Sequence[Sites | None], statuses: Sequence[str]) -> Scores:
        table = _crystals_table(sites, statuses)
        answer = self._evaluated(table)
        if self._walks:
            table = answer.select([column.name for column in (*CRYSTALS, STATUS)])
            evaluations = sum(answer.column("evaluations").to_pylist())
        else:
            evaluations = _evaluated([status == OK for status in statuses], answer.column("status").to_pylist())
        if self._scheme is not None:
            answer = _corrected(table, answer, self._scheme)
        batch = _judged(self._hull, self._known, sites, table, answer, self._chances)
        for group in self._later:
            wanted = self._reward.wanted(group, batch)
            batch = _with_more(self._worker, table, batch, group, wanted, self._models)
            if group == FORCE:  # what predictions cost is not an evaluation of energy or forces, and not counted
                evaluations += _evaluated(wanted.tolist(), batch.reasons[FORCE])
        rewards = self._reward.score(batch)
        return Scores(
            reward=rewards.reward,
            terms=rewards.terms,
            figures={name: values for name, values in batch.figures.items() if name in _FIGURES},
            known=batch.figure(NOVELTY) == 0.0,
            status=rewards.statuses,
            evaluations=evaluations,
            ahead=_ahead(answer, batch.figure("e_above_hull")) if self._walks else [],
        )

    def _evaluated(self, table: pa.Table) -> pa.Table:
        if not self._walks:
            return figures_of(self._worker, table, self._everywhere, advance=self.advance)
        return self._worker.map(
            FUNCTIONS["walk"], table, ANSWERS["walk"], advance=self.advance, max_evaluations=self._max_evaluations
        )

    def knows(self, sites: Sequence[Sites | None]) -> np.ndarray:
        """(B, 2) bool: the policy was trained on a crystal of the same kind; on one of the same formula."""
        has, has_formula = self._known.has, self._known.has_formula
        return np.array([(s is not None and has(s), s is not None and has_formula(s)) for s in sites], bool)


@contextmanager
def open_scoring(
    settings: RewardSettings,
    potential: str,
    reference: str,
    properties: str | None,
    threads: int | None,
    device: str = CPU,
    *,
    stability: str | None = None,
    stable_below: float = STABLE_BELOW,
    workers: int = 1,
    ahead: bool = False,
) -> Iterator[tuple[Scorer, PotentialIdentity]]:
    """The score that `settings` describe and the identity of its potential; its workers live as long as the block.

    reference: file of the known crystals, in the same potential; properties: file of the property models, which is
    needed only where the reward asks for them; threads: of a worker; device: where it computes, cpu or gpu; workers: how many; ahead: see `Scorer`. Raises InputError as `score_by` does.
    """
    models = properties if PROPERTIES in Reward.of(settings).needs else None
    prepare = [(FUNCTIONS[PROPERTIES], {"models": models})] if models else []
    with closing(WorkerPool(potential, workers, prepare=prepare, threads=threads, device=device)) as worker:
        score = score_by(
            worker, settings, reference, properties, stability=stability, stable_below=stable_below, ahead=ahead
        )
        yield score, worker.identity


def score_by(
    worker: Worker,
    settings: RewardSettings,
    reference: str,
    properties: str | None,
    *,
    stability: str | None = None,
    stable_below: float = STABLE_BELOW,
    ahead: bool = False,
) -> Scorer:
    """The score that `settings` describe, by a worker that somebody else ends; files as for `open_scoring`.

    Raises InputError for settings that mean nothing, and where potential and reference do not belong together.
    """
    reward = Reward.of(settings)
    if PROPERTIES in reward.needs and properties is None:
        raise InputError("the reward needs predicted properties, but no models are given; name the file of the models.")
    known = known_kinds(reference)
    if NOVELTY in reward.needs and not known:
        raise InputError(
            f"{reference} has no crystals of role 'pretraining' with Wyckoff sites, so nothing can be called new; use a "
            "whole reference, or leave novelty out of the reward."
        )
    energies = read_energies(reference)
    where = placed(energies, worker.identity, worker.name, reference)
    hull = Hull.of(where.energies)
    chances = None
    if STABILITY in reward.needs and settings.relax.max_evaluations > 1:
        raise InputError(
            "the reward asks for p_stable, which was learned for crystals as sampled, and relaxes them first; reward e_above_hull, or leave reward.relax "
            "out."
        )
    if STABILITY in reward.needs:
        chances = Chances.of(energies, worker.identity, stability, stable_below)
        if chances.calibrations is None:
            raise InputError(
                f"the reward asks for p_stable, but nothing was learned of the errors of {worker.identity} on {reference}; give a stability file "
                "of this potential, or reward e_above_hull."
            )
    models = properties if PROPERTIES in reward.needs else None
    return Scorer(
        worker, hull, reward, known, models, chances, MP2020() if where.add_mp2020 else None,
        max_evaluations=settings.relax.max_evaluations, ahead=ahead,
    )  # fmt: skip


def _corrected(table: pa.Table, answer: pa.Table, scheme: MP2020) -> pa.Table:
    """The answer with corrections added to its energies, by the structures as sampled."""
    names = ("atomic_numbers", "frac_coords", "lattice")
    wanted = pa.table(
        {name: table.column(name) for name in names} | {name: answer.column(name) for name in (ENERGY, "status")}
    )
    found, _ = corrected(wanted, scheme)
    for name in (ENERGY, "status"):
        place = answer.column_names.index(name)
        answer = answer.set_column(place, answer.schema.field(place), found.column(name))
    return answer


def _crystals_table(sites: Sequence[Sites | None], statuses: Sequence[str]) -> pa.Table:
    """Crystals in their primitive cells, the cheapest for a potential, and their tokens."""
    columns = crystal_columns([None if s is None else primitive(s) for s in sites])
    columns |= token_columns(sites, coords_name=SITE_FRAC_COORDS.name)
    ids = [str(i) for i in range(len(sites))]
    return make_table((*CRYSTALS_AND_TOKENS, STATUS), {"id": ids, **columns, "status": list(statuses)})


def _ahead(answer: pa.Table, e_above_hull: np.ndarray) -> list[Sites | None]:
    """Where one more step of each walk would lead; None where that says little of where the crystal rests."""
    found = sites_from_table(answer, "the answer")
    return [s if distance <= _NEAR_REST else None for s, distance in zip(found, e_above_hull.tolist(), strict=True)]


def _evaluated(sent: Sequence[bool], found: Sequence[str]) -> int:
    """Of the crystals that were sent to the potential, those that it was evaluated for, by the statuses that came back."""
    return sum(asked and status in _EVALUATED for asked, status in zip(sent, found, strict=True))


def _judged(
    hull: Hull,
    known: KnownKinds,
    sites: Sequence[Sites | None],
    table: pa.Table,
    answer: pa.Table,
    chances: Chances | None = None,
) -> Batch:
    """The batch with what follows from the energies in `answer` and from the crystals themselves."""
    n = table.num_rows
    figures = {name: _floats(answer, name) for name in (ENERGY, FORCE) if name in answer.column_names}
    figures |= {name: np.full(n, np.nan) for name in ("formation_energy", "e_above_hull", "hull_support")}
    numbers = [None if z is None else np.array(z, int) for z in table.column("atomic_numbers").to_pylist()]
    statuses = answer.column("status").to_pylist()
    for i, (z, energy) in enumerate(zip(numbers, figures[ENERGY].tolist(), strict=True)):
        statuses[i] = row_status(hull, z, energy, statuses[i])
        if statuses[i] == OK and z is not None:
            formation = hull.formation_energy(z, energy)
            distance = hull.distance(z, formation)
            figures["formation_energy"][i] = formation
            figures["e_above_hull"][i] = distance.e_above_hull
            figures["hull_support"][i] = distance.support
    if chances is not None:
        # below the hull earns what the hull earns
        figures["p_stable"] = chances.sampled(
            np.maximum(figures["e_above_hull"], 0.0), figures["hull_support"], numbers, [s.space_group if s else None for s in sites],
            [s.wyckoff if s else None for s in sites],
        )  # fmt: skip
    figures[NOVELTY] = np.array([np.nan if s is None else float(not known.has(s)) for s in sites], float)
    figures[NEW_FORMULA] = np.array([np.nan if s is None else float(not known.has_formula(s)) for s in sites], float)
    return Batch(numbers, statuses, figures, list(sites))


def figures_of(
    worker: Worker,
    table: pa.Table,
    group: str = ENERGY,
    models: str | None = None,
    advance: Callable[[int], object] | None = None,
) -> pa.Table:
    """A group of figures of the crystals in `table`, row for row: the columns of `ANSWERS`, null where status says why."""
    options: dict[str, Any] = {"models": models} if group == PROPERTIES else {}
    return worker.map(FUNCTIONS[group], table, ANSWERS[group], advance=advance, **options)


def _with_more(worker: Worker, table: pa.Table, batch: Batch, group: str, wanted: np.ndarray, models: str | None) -> Batch:
    """The batch with the figures of `group` for the wanted crystals, and with the reasons for those that are missing."""
    rows = np.flatnonzero(wanted)
    answer = figures_of(worker, table.take(pa.array(rows, pa.int64())), group, models)
    figures, reasons = dict(batch.figures), [OK] * len(batch)
    for name in answer.column_names:
        if name in _FIGURES and name not in figures:
            figures[name] = np.full(len(batch), np.nan)
            figures[name][rows] = _floats(answer, name)
    for row, status in zip(rows.tolist(), answer.column("status").to_pylist(), strict=True):
        reasons[row] = status
    return Batch(batch.atomic_numbers, batch.statuses, figures, batch.sites, {**batch.reasons, group: reasons})


def _floats(table: pa.Table, name: str) -> np.ndarray:
    return table.column(name).to_numpy(zero_copy_only=False).astype(float)
