"""Crystals judged in a session: evaluate, relax, hull, novelty, properties, and what can be drawn of a hull.

Wherever structures are asked for, pymatgen Structures, ASE Atoms, our `Crystal`s, paths of files or folders, and tables
of ours are taken, mixed as they come (`reading.objects`). Every function returns a pandas DataFrame with a row a crystal;
what fails keeps its row, with a `status`. Energies are eV/atom, lengths Å, gaps eV.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from tqdm import tqdm

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS, SYMBOLS
from crystalformer_rl.crystal.encode import SYMPREC
from crystalformer_rl.errors import InputError
from crystalformer_rl.front_door.dataframes import dataframe, structures_of
from crystalformer_rl.front_door.places import located
from crystalformer_rl.front_door.workers import worker
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.reading.objects import crystals_table
from crystalformer_rl.stages.questions import PREDICT, RELAX
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.property_columns import PROPERTIES

References = str | Path | Sequence[str | Path]

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.analysis.phase_diagram import PhaseDiagram
    from pymatgen.core import Structure


def evaluate(
    structures: Any,
    *,
    reference: References = "embedded",
    potential: str = "chgnet",
    judge: str | None = None,
    models: str | Path | None = "embedded",
    stability: str | Path | None = "embedded",
    name: str = "crystals",
    stable_below: float = STABLE_BELOW,
    progress: bool = True,
    **relaxation: Any,
) -> pd.DataFrame:
    """Stability before and after relaxation, uniqueness, novelty and S.U.N. of structures.

    reference, models: `embedded`, a name in the registry, or a path; of further references in a list the phases join the hull,
    and they may be tables of `relax` or JSON of computed entries, too. `models=None` leaves gaps and dielectric constants out.
    stability: likewise, what was learned of a potential's errors, by which p_stable and p_on_hull are calibrated where it is of this one;
    elsewhere, and with None, they follow from distance and standard deviation.
    potential: as `crystalformer-rl relax` takes it; one that the reference is not of must have learned
    the scale of its DFT energies, which then compete alone. judge: a second potential, such as sevennet-0, that relaxes the
    crystals too.
    name: goes into the column `policy`. stable_below: eV/atom above the hull. relaxation: fmax (eV/Å), smax (GPa),
    max_evaluations, free. The DataFrame has the columns of crystals.parquet of a run, relaxed crystals among them; its
    `attrs["metrics"]` has counts and fractions of all rows with their 95 % intervals. Raises InputError for a reference of
    another scale, and for settings out of bounds.
    """
    from crystalformer_rl.stages.evaluate import evaluate as stage

    table = crystals_table(structures)
    settings = _settings(relaxation)
    with _Bars(table.num_rows, progress, twice="relaxed" if settings.free else "") as bars:
        first, *phases = _located(reference)
        found = stage(
            table,
            first,
            worker(potential),
            judge=None if judge is None else worker(judge),
            phases=phases,
            models=None if models is None else located(models, "properties"),
            stability=None if stability is None else located(stability, "stability"),
            settings=settings,
            policy=name,
            stable_below=stable_below,
            progress=bars,
        )
    return dataframe(found.crystals, metrics=found.metrics.to_pylist()[0])


def relax(
    structures: Any,
    *,
    potential: str = "chgnet",
    symprec: float = SYMPREC,
    stability: str | Path | None = "embedded",
    progress: bool = True,
    **relaxation: Any,
) -> pd.DataFrame:
    """Relax cell and positions, keeping the space group.

    symprec: Å, of the symmetry search, for structures that come without tokens. relaxation: fmax (eV/Å), smax (GPa),
    max_evaluations, free. The DataFrame has the primitive cells at rest, their tokens, the energies before and after, and
    the force and stress that remain. Raises InputError for settings out of bounds.
    """
    return dataframe(_relaxed(structures, potential, symprec, stability, progress, relaxation))


def hull(
    structures: Any,
    *,
    reference: References = "embedded",
    potential: str = "chgnet",
    stability: str | Path | None = "embedded",
    assume_same_potential: bool = False,
    progress: bool = True,
    **relaxation: Any,
) -> pd.DataFrame:
    """Formation energy and energy above the convex hull of a reference, eV/atom, negative below the hull.

    Crystals that come with a column `energy` (total energy, eV/atom), as those of `relax` and `evaluate` do, are taken as
    they are. The record of their potential must be the reference's, or on the scale of its DFT energies; where there is none, as in a
    table of your own, `assume_same_potential` says that they are of the reference's. Other crystals are relaxed first, with `potential` and the
    settings in `relaxation`; reference, stability: as of `evaluate`. The result has distances alone, so call `relax` first to keep the relaxed crystals. Raises InputError
    where the energies are on another scale.
    """
    from crystalformer_rl.stages.hull import hull as stage

    table = crystals_table(structures)
    if "energy" not in table.column_names:
        table = _relaxed(table, potential, SYMPREC, stability, progress, relaxation)
    elif relaxation:
        raise InputError("the crystals come with energies, so they are not relaxed; leave settings of relaxation out.")
    with _Bars(table.num_rows, progress) as bars:
        return dataframe(
            stage(
                {"the table": table},
                _located(reference),
                assume_same_potential=assume_same_potential,
                stability=None if stability is None else located(stability, "stability"),
                advance=bars.of("hull"),
            )
        )


def _located(reference: References) -> list[Path]:
    """The file of the reference, and those of further phases."""
    first, *others = [reference] if isinstance(reference, str | Path) else list(reference)
    return [located(first, "reference"), *map(Path, others)]


def novelty(structures: Any, *, reference: str | Path = "embedded", progress: bool = True) -> pd.DataFrame:
    """Which structures are new, which were retrieved from the pretraining set, and which are of one structure.

    Structures are compared as they are; relax them first where they are not at rest. The DataFrame has the columns novel,
    rediscovered, match_id, match_role, known_level, known_partner, known_exchange, unique, duplicate_of and status, among
    others. Raises InputError for a file that is not a reference.
    """
    from crystalformer_rl.stages.novelty import novelty as stage

    table = crystals_table(structures)
    with _Bars(table.num_rows, progress) as bars:
        return dataframe(stage(table, located(reference, "reference"), advance=bars.of("novelty")))


def properties(structures: Any, *, models: str | Path = "embedded", progress: bool = True) -> pd.DataFrame:
    """Band gap (eV), dielectric constants and their products, each with a standard deviation (`_std`).

    The models learned from relaxed crystals. `applicability` above about 1 is extrapolation. Raises InputError for a file that
    holds no models, and where the installed potential has other weights than they learned from.
    """
    table = crystals_table(structures)
    with _Bars(table.num_rows, progress) as bars:
        # Property models learned from CHGNet's embeddings; the worker loads another potential where theirs is another.
        found = worker("chgnet").map(
            PREDICT, table, PROPERTIES, advance=bars.of("properties"), models=str(located(models, "properties"))
        )
    return dataframe(found)


def to_structures(table: pd.DataFrame | pa.Table) -> list[Structure | None]:
    """A pymatgen Structure for each row of a table of crystals, a DataFrame or pyarrow's; None for a row that holds none.

    Raises InputError for a table without atomic_numbers, frac_coords (3N) and lattice (9, Å).
    """
    return structures_of(table)


def phase_diagram(system: str, *, reference: str | Path = "embedded") -> PhaseDiagram:
    """Pymatgen's PhaseDiagram of the reference's entries in a chemical system such as `Li-P-S`; PDPlotter draws it.

    One entry a composition: the phase that competes there, by the rules of `hull`. Energies are formation energies, eV per formula unit of the entry,
    from the elements of the reference's scale; an entry's name is its id in the reference. Raises InputError where no element or an unknown one is named, and for one that the reference has no energy of.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    from crystalformer_rl.hull.convex_hull import Hull

    symbols = [part for part in re.split(r"[-\s,]+", system) if part]
    if not symbols:
        raise InputError("no element is named; write a system such as Li-P-S.")
    hull = Hull.from_reference(located(reference, "reference"))
    for symbol in symbols:
        if symbol not in ATOMIC_NUMBERS:
            raise InputError(f"'{symbol}' in '{system}' is not an element symbol; write a system such as Li-P-S.")
        if ATOMIC_NUMBERS[symbol] not in hull.elemental_energies:
            raise InputError(f"the reference has no energy of {symbol}; choose a system without it, or another reference.")
    entries = []
    for entry in hull.inside(ATOMIC_NUMBERS[symbol] for symbol in symbols):
        counts = Composition({SYMBOLS[z - 1]: n for z, n in entry.composition.items()})
        entries.append(PDEntry(counts, entry.formation_energy * counts.num_atoms, name=entry.id))
    return PhaseDiagram(entries)


def _relaxed(
    structures: Any,
    potential: str,
    symprec: float,
    stability: str | Path | None,
    progress: bool,
    relaxation: dict[str, Any],
) -> pa.Table:
    table = crystals_table(structures)
    settings = _settings(relaxation)
    with _Bars(table.num_rows, progress, twice="relax" if settings.free else "") as bars:
        return worker(potential).map(
            RELAX,
            table,
            RELAXED,
            advance=bars.of("relax"),
            settings=settings.model_dump(),
            symprec=symprec,
            stability=None if stability is None else str(located(stability, "stability")),
        )


def _settings(relaxation: dict[str, Any]) -> RelaxSettings:
    from crystalformer_rl.config.messages import validate

    found: RelaxSettings = validate(RelaxSettings, relaxation, "relaxation")
    return found


class _Bars:
    """A progress bar a stage, in notebooks as on terminals; called with a stage and what it finished.

    twice: the stage, if any, that goes over all crystals a second time.
    """

    def __init__(self, total: int, shown: bool, twice: str = "") -> None:
        self._total, self._shown, self._twice = total, shown, twice
        self._bars: dict[str, tqdm] = {}

    def __enter__(self) -> _Bars:
        return self

    def __call__(self, stage: str, finished: int) -> None:
        if stage not in self._bars:
            total = self._total * (2 if stage == self._twice else 1)
            self._bars[stage] = tqdm(total=total, desc=stage, unit="crystal", disable=not self._shown, leave=False)
        self._bars[stage].update(finished)

    def of(self, stage: str) -> Any:
        """The same for one stage."""
        return lambda finished: self(stage, finished)

    def __exit__(self, *error: object) -> None:
        for bar in self._bars.values():
            bar.close()
