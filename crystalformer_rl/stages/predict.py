"""The structures of a formula: candidates of a policy and of known prototypes, relaxed and ranked by energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from crystalformer_rl.crystal.elements import parse_formula, reduced_formula
from crystalformer_rl.crystal.structure import crystal_columns, crystals_from_table
from crystalformer_rl.crystal.structure_type import structure_type
from crystalformer_rl.crystal.tokens import make_sites, primitive, token_columns
from crystalformer_rl.discovery.known_structures import Known
from crystalformer_rl.errors import InputError
from crystalformer_rl.hull.convex_hull import Hull
from crystalformer_rl.hull.hull_table import hull_table
from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.prediction.common_types import common_types
from crystalformer_rl.prediction.descent import SAME_ENERGY, Advance, Tell, descended
from crystalformer_rl.prediction.formula_groups import space_group_probabilities
from crystalformer_rl.prediction.generation import POLICY, SUBSTITUTION, Proposed, by_policy, by_substitution
from crystalformer_rl.prediction.known_phase import KnownPhase, known_phase
from crystalformer_rl.prediction.merging import merged, merged_at_rest
from crystalformer_rl.prediction.policy_candidates import policy_candidates
from crystalformer_rl.prediction.predict_settings import PredictSettings
from crystalformer_rl.prediction.prototype_label import prototype_label
from crystalformer_rl.recovery.prototypes import Prototypes
from crystalformer_rl.reference.compatibility import check_same_potential
from crystalformer_rl.scoring.groups import ANSWERS, FUNCTIONS
from crystalformer_rl.stages.novelty import novelty
from crystalformer_rl.stages.questions import RELAX
from crystalformer_rl.tables.column import table_of_rows
from crystalformer_rl.tables.crystal_columns import SITE_FRAC_COORDS
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.prediction_columns import PREDICTED_STRUCTURES
from crystalformer_rl.tables.provenance import with_record
from crystalformer_rl.tables.status import OK, Status

if TYPE_CHECKING:
    from crystalformer_rl.policy.transformer import Policy

BOTH = "both"
"""`made_by` of a structure that both generators found."""

_KNOWN = ("match_id", "match_role", "known_level", "known_partner", "known_exchange")


@dataclass
class Means:
    """What formulas are predicted with. policy: None where it makes no candidates; trained: (230,) how often it saw each space group.

    worker: the potential's; hull and known crystals are those of one reference, prototypes too, with those of the elements beside them.
    """

    worker: PotentialWorker
    prototypes: Prototypes
    hull: Hull
    known: Known
    policy: Policy | None
    trained: Sequence[float]

    @classmethod
    def of(
        cls, reference: str | Path, worker: PotentialWorker, policy: Policy | None, trained: Sequence[float], most_atoms: int
    ) -> Means:
        """Read a reference. Raises InputError where its energies are another potential's."""
        hull = Hull.from_reference(reference)
        check_same_potential(f"the potential '{worker.name}'", worker.identity, str(reference), hull.identity)
        prototypes = Prototypes.from_reference(reference, most_atoms, common_types())
        return cls(worker, prototypes, hull, Known.from_reference(reference), policy, trained)


@dataclass(frozen=True)
class Predicted:
    """table: PREDICTED_STRUCTURES; known: None where the reference has no energy of the formula."""

    table: pa.Table
    formula: str
    known: KnownPhase | None

    def found_known(self) -> int | None:
        """Rank of the structure of the known phase; None where that is not known or was not found."""
        if self.known is None:
            return None
        rows = self.table.select(["rank", "match_id"]).to_pylist()
        return next((row["rank"] for row in rows if row["rank"] and row["match_id"] == self.known.id), None)


def asked(formula: str, hull: Hull, most_atoms: int) -> dict[int, int]:
    """The reduced composition {atomic number: atoms} of a formula whose structures can be predicted.

    Raises InputError for what is no formula, an element without an energy, and a formula unit of more than `most_atoms` atoms.
    """
    counts = parse_formula(formula)
    missing = hull.missing_elements(counts)
    if missing:
        raise InputError(
            f"{formula} holds {missing[0]}, of which the reference has no energy; predict a formula without it."
        )
    divisor = math.gcd(*counts.values())
    unit = {z: n // divisor for z, n in counts.items()}
    atoms = sum(unit.values())
    if atoms > most_atoms:
        raise InputError(
            f"{formula} has {atoms} atoms in its formula unit, and cells of at most {most_atoms} are predicted; raise max_atoms, "
            "though policies are trained on cells of at most 20 atoms."
        )
    return unit


def predict(
    formula: str, means: Means, settings: PredictSettings | None = None, *, seed: int = 0, tell: Tell | None = None
) -> Predicted:
    """The PREDICTED_STRUCTURES table of a formula: a row a candidate, those relaxed to rest first, by rising energy.

    The candidates of the policy are drawn with the space groups' probabilities given the formula, those of substitution are the known prototypes of
    the stoichiometry with their elements exchanged (compounds of the formula itself give nothing). Candidate i of a generator depends on (seed, i) alone.
    What is one structure is relaxed once. Raises InputError as `asked` does, and where neither generator has a candidate.
    """
    settings = settings or PredictSettings()
    counts = asked(formula, means.hull, settings.max_atoms)
    proposed = _proposed(counts, means, settings, seed, tell)
    if not proposed:
        raise InputError(
            f"no known compound has the stoichiometry of {formula}, so that no elements can be exchanged; let the policy make candidates."
        )
    rows = [_made(one) for one in proposed]
    firsts = _merged(proposed, rows)
    for k, found in zip(firsts, descended([proposed[k] for k in firsts], _Asked(means.worker), settings, tell), strict=True):
        rows[k] |= found
    known = known_phase(counts, means.hull)
    _place(rows, means, known)
    ranked = sorted((row for row in rows if row.get("rank")), key=lambda row: row["rank"])
    table = table_of_rows(PREDICTED_STRUCTURES, [*ranked, *(row for row in rows if not row.get("rank"))])
    name = reduced_formula([z for z, n in counts.items() for _ in range(n)])
    record = {"stage": "predict", "potential": means.worker.identity.as_record()}
    return Predicted(with_record(table, record), name, known)


class _Asked:
    """A worker's energies."""

    def __init__(self, worker: PotentialWorker) -> None:
        self._worker = worker

    def once(self, crystals: pa.Table, advance: Advance) -> pa.Table:
        """Energies as they are."""
        return self._worker.map(FUNCTIONS["energy"], crystals, ANSWERS["energy"], advance=advance)

    def relaxed(self, crystals: pa.Table, settings: RelaxSettings, advance: Advance) -> pa.Table:
        """The RELAXED table."""
        return self._worker.map(RELAX, crystals, RELAXED, advance=advance, settings=settings.model_dump())


def _proposed(
    counts: Mapping[int, int], means: Means, settings: PredictSettings, seed: int, tell: Tell | None
) -> list[Proposed]:
    found: list[Proposed] = []
    if SUBSTITUTION in settings.generators:
        found += by_substitution(counts, means.prototypes, settings.prototypes)
    if POLICY in settings.generators:
        assert means.policy is not None
        probabilities = space_group_probabilities(counts, means.prototypes, means.trained)
        advance = None if tell is None else lambda n: tell("sample", settings.n, n)
        candidates = policy_candidates(
            means.policy, counts, settings.n, probabilities,
            seed=seed, draws=settings.draws, most_atoms=settings.max_atoms, advance=advance,
        )  # fmt: skip
        found += by_policy(candidates, seed, probabilities)
    return found


def _made(one: Proposed) -> dict[str, Any]:
    """The row of a candidate as it was made."""
    crystal = None if one.sites is None else primitive(one.sites)
    columns = crystal_columns([crystal]) | token_columns([one.sites], coords_name=SITE_FRAC_COORDS.name)
    return {
        **{name: values[0] for name, values in columns.items()},
        **one.told,
        "id": one.id,
        "made_by": one.made_by,
        "stands_for": 1,
        "status": one.status,
    }


def _merged(proposed: Sequence[Proposed], rows: list[dict[str, Any]]) -> list[int]:
    """Candidates that stand for all of their structure; the rows of the others say so. Generators are kept apart."""
    firsts: list[int] = []
    for maker in (SUBSTITUTION, POLICY):
        own = [k for k, one in enumerate(proposed) if one.made_by == maker and one.sites is not None]
        for k, place in zip(own, merged([proposed[k].sites for k in own]), strict=True):
            assert place is not None
            if own[place] == k:
                firsts.append(k)
            else:
                _joined(rows, own[place], k)
    return firsts


def _joined(rows: list[dict[str, Any]], first: int, k: int) -> None:
    """Let row `first` stand for row `k`."""
    rows[first]["stands_for"] += rows[k]["stands_for"]
    if rows[k]["made_by"] != rows[first]["made_by"]:
        rows[first]["made_by"] = BOTH
    rows[k] |= {"duplicate_of": rows[first]["id"], "status": Status.DUPLICATE}


def _place(rows: list[dict[str, Any]], means: Means, known: KnownPhase | None) -> None:
    """Distances to the hull, what is known, duplicates at rest, and ranks, in the rows."""
    _add_hull(rows, means.hull)
    rest = [k for k, row in enumerate(rows) if row["status"] == OK]
    rest.sort(key=lambda k: (rows[k]["energy"], k))
    crystals, _ = crystals_from_table(table_of_rows(PREDICTED_STRUCTURES, [rows[k] for k in rest]))
    energies, groups = ([rows[k][name] for k in rest] for name in ("energy", "space_group"))
    places = merged_at_rest([c for c in crystals if c is not None], energies, groups, SAME_ENERGY)
    firsts = [k for place, k in enumerate(rest) if places[place] == place]
    for place, k in enumerate(rest):
        if places[place] != place:
            _joined(rows, rest[places[place]], k)
    _add_known(rows, firsts, means.known)
    for rank, k in enumerate(firsts, start=1):
        row = rows[k]
        sites = make_sites(*(row[name] for name in _TOKENS))
        row |= {
            "rank": rank,
            "above_best": row["formation_energy"] - rows[firsts[0]]["formation_energy"],
            "above_known": None if known is None else row["formation_energy"] - known.formation_energy,
            "prototype": prototype_label(sites),
            "structure_type": structure_type(sites.space_group, sites.wyckoff, sites.elements),
        }


_TOKENS = ("space_group", "wyckoff", "elements", SITE_FRAC_COORDS.name, "lattice_parameters")
_DISTANCES = ("formation_energy", "e_above_hull", "e_above_hull_std")


def _add_hull(rows: list[dict[str, Any]], hull: Hull) -> None:
    """Distances of the candidates that are at rest; one whose energy no compound has gets a status that says so."""
    rest = [row for row in rows if row["status"] == OK]
    found = hull_table(hull, table_of_rows(PREDICTED_STRUCTURES, rest))
    for row, distance in zip(rest, found.to_pylist(), strict=True):
        row |= {name: distance[name] for name in (*_DISTANCES, "status")}


def _add_known(rows: list[dict[str, Any]], firsts: Sequence[int], known: Known) -> None:
    found = novelty(table_of_rows(PREDICTED_STRUCTURES, [rows[k] for k in firsts]), known)
    for k, said in zip(firsts, found.to_pylist(), strict=True):
        rows[k] |= {name: said[name] for name in _KNOWN}
