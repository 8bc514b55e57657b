"""The tables that pass between stages: columns with units, atomic Parquet files, provenance.

Every stage writes Parquet through `write_table`. A file appears under its name
only when it is whole; its metadata says how it was made, and each field's
metadata says what it means and in which unit. The files hold no time stamps, so
that the same command on the same machine writes the same bytes.

This module imports nothing heavier than pyarrow: bare GPU nodes read it too.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crystalformer_rl import __version__
from crystalformer_rl.errors import InputError

PROVENANCE_KEY = b"crystalformer_rl"
_RECORDED_PACKAGES = ("numpy", "jax", "equinox", "optax", "torch", "chgnet", "mace-torch", "ase",
                      "pymatgen", "moyopy", "pyarrow")  # fmt: skip

OK = "ok"
#: Every status a row may carry, with what it means. Rows that fail keep their place.
STATUSES: dict[str, str] = {
    OK: "the stage succeeded for this crystal",
    "unreadable": "the input could not be read as a crystal",
    "unknown_element": "an element outside the supported range (Z = 1 to 118)",
    "empty_crystal": "no atoms",
    "bad_lattice": "a lattice that is not finite, has no volume or angles no cell can have",
    "bad_coordinates": "coordinates that are not finite or not three per atom",
    "no_symmetry": "no space group was found",
    "too_many_sites": "more symmetry-inequivalent sites than a token sequence holds",
    "no_wyckoff_representative": "no point of an orbit satisfies the standard form of its Wyckoff position",
    "not_reproduced": "decoding the tokens does not give the crystal back",
    "no_crystal": "the sampled tokens decode to no crystal: no sites, or no room for the lattice",
    "overlapping_atoms": "two atoms closer than 0.5 Å",
    "too_large": "more atoms in the primitive cell than the limit of the stage",
    "isolated_atoms": "an atom with no neighbour within the potential's cutoff",
    "unsupported_element": "the potential was not made for one of the elements",
    "potential_failed": "the potential gave no finite energy",
    "out_of_memory": "the potential needs more memory for this crystal alone than there is",
    "collapsed": "the cell shrank below half of its first volume in relaxation",
    "exploded": "the cell grew beyond twice its first volume in relaxation",
    "no_reference_energy": "no elemental reference energy for one of the elements",
    "no_energy": "the computed entry gives no finite energy",
    "no_structure": "the computed entry gives a composition but no structure",
    "other_functional": "the computed entry's functional or Hubbard U is not that of the reference",
    "no_correction": "the MP2020 corrections of its energy cannot be worked out",
    "no_figure": "a figure that the reward needs is not known, and no stage says why",
    "match_failed": "the structure matcher could not handle the crystal",
    "upstream_failed": "an earlier stage failed for this crystal; its own status says how",
}


@dataclass(frozen=True)
class Column:
    """A persisted field: its Arrow type, unit (empty for none) and one sentence."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str

    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, metadata={"unit": self.unit, "meaning": self.meaning})


_f = pa.float64()
_fs = pa.list_(pa.float64())
_is = pa.list_(pa.int64())

ID = Column("id", pa.string(), "", "name of the crystal, unique in its table")
STATUS = Column("status", pa.string(), "", "ok, or the named reason why this row has no result")

CRYSTALS = (
    ID,
    Column("formula", pa.string(), "", "reduced formula"),
    Column("atomic_numbers", _is, "", "atomic number of each atom (N)"),
    Column("frac_coords", _fs, "", "fractional coordinates, row-major (3N)"),
    Column("lattice", _fs, "Å", "lattice vectors as rows, row-major (9)"),
)

_SPACE_GROUP = Column("space_group", pa.int64(), "", "space group number, 1 to 230")
_WYCKOFF = Column("wyckoff", _is, "", "Wyckoff letter of each site (1 = a … 26 = z, 27 = A)")
_ELEMENTS = Column("elements", _is, "", "atomic number of each site")
_SITES_MEANING = "fractional coordinates of one representative per site, conventional cell, row-major (3 a site)"
_LATTICE_PARAMETERS = Column("lattice_parameters", _fs, "Å and degrees", "a, b, c, α, β, γ of the conventional cell")

TOKENS = (ID, _SPACE_GROUP, _WYCKOFF, _ELEMENTS, Column("frac_coords", _fs, "", _SITES_MEANING), _LATTICE_PARAMETERS)
#: Tokens beside a crystal in one table: the crystal keeps `frac_coords`, the sites' go here.
SITE_FRAC_COORDS = Column("site_frac_coords", _fs, "", _SITES_MEANING)
CRYSTALS_AND_TOKENS = (*CRYSTALS, _SPACE_GROUP, _WYCKOFF, _ELEMENTS, SITE_FRAC_COORDS, _LATTICE_PARAMETERS)

LOG_PROBS = tuple(
    Column(name, _f, "nat", meaning)
    for name, meaning in (
        ("log_prob_w", "log-probability of the Wyckoff letters"),
        ("log_prob_xyz", "log-probability density of the free coordinates"),
        ("log_prob_a", "log-probability of the elements"),
        ("log_prob_l", "log-probability density of the free lattice parameters"),
        ("log_prob", "sum of the four"),
    )
)

SAMPLES = (
    *CRYSTALS_AND_TOKENS,
    Column("log_prob", _f, "nat", "log-probability under the policy, without masks, at temperature 1"),
    Column("behaviour_log_prob", _f, "nat", "log-probability under the policy with the masks and temperature of this run"),
    STATUS,
)

#: States of Markov chains; `id` is `chain@step`.
CHAINS = (
    *CRYSTALS_AND_TOKENS,
    Column("chain", pa.string(), "", "id of the crystal that the chain started from"),
    Column("step", pa.int64(), "", "Metropolis steps from the start"),
    Column("acceptance", _f, "", "accepted fraction of the steps so far"),
    Column("log_prob", _f, "nat", "log-probability under the policy"),
    Column("reward", _f, "eV/atom", "reward in the chain's law; null without one"),
    STATUS,
)

#: The crystal is the primitive cell, the tokens are those of the relaxed crystal.
RELAXED = (
    *CRYSTALS_AND_TOKENS,
    Column("energy", _f, "eV/atom", "total energy of the potential after relaxation"),
    Column("energy_initial", _f, "eV/atom", "total energy of the potential before relaxation"),
    Column("force_max", _f, "eV/Å", "largest force on an atom at the end"),
    Column("stress_max", _f, "GPa", "largest component of the stress at the end"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential"),
    Column("converged", pa.bool_(), "", "forces and stresses both below their limits"),
    Column("energy_kept", _f, "eV/atom", "total energy with the first space group kept; null without a free relaxation"),
    Column("space_group_kept", pa.int64(), "", "that space group; null without a free relaxation"),
    STATUS,
)

HULL = (
    ID,
    Column("formula", pa.string(), "", "reduced formula"),
    Column("formation_energy", _f, "eV/atom", "formation energy from the elemental references, after relaxation"),
    Column("e_above_hull", _f, "eV/atom", "energy above the convex hull of the reference, after relaxation"),
    Column("formation_energy_initial", _f, "eV/atom", "formation energy before relaxation"),
    Column("e_above_hull_initial", _f, "eV/atom", "energy above hull before relaxation"),
    Column("decomposition", pa.string(), "", "competing phases with their atom fractions, as JSON {reference id: fraction}"),
    Column("decomposition_formulas", pa.string(), "", "the same, readable: 0.50 NaCl + 0.50 KBr"),
    Column(
        "hull_support",
        pa.int64(),
        "",
        "compositions of two or more elements that the reference knows in the chemical system",
    ),
    Column("suspect", pa.bool_(), "", "more than 0.1 eV/atom below the hull: more likely a fault of the potential"),
    STATUS,
)

PROPERTIES = (
    ID,
    *(
        Column(name + suffix, _f, unit, meaning + words)
        for name, unit, meaning in (
            ("band_gap", "eV", "PBE band gap"),
            ("eps_electronic", "", "electronic dielectric constant (trace/3)"),
            ("eps_total", "", "total dielectric constant (trace/3)"),
            ("fom", "eV", "figure of merit, eps_electronic · band_gap"),
            ("fom_total", "eV", "figure of merit with the ions' screening, eps_total · band_gap"),
        )
        for suffix, words in (("", ", predicted"), ("_std", ", standard deviation of the prediction"))
    ),
    Column("insulator_probability", _f, "", "probability that the gap is not zero"),
    Column(
        "applicability", _f, "", "distance to the dielectric training data; up to about 1 inside, larger is extrapolation"
    ),
    STATUS,
)

NOVELTY = (
    ID,
    Column("novel", pa.bool_(), "", "no structure of the reference's pretraining set matches"),
    Column("rediscovered", pa.bool_(), "", "novel, and matches a held-out entry, which the policy never saw"),
    Column("match_id", pa.string(), "", "the reference entry that matches, if any"),
    Column("match_role", pa.string(), "", "role of that entry: pretraining or held_out"),
    Column(
        "known_level", pa.string(), "", "structure, formula, prototype, chemical_system or none: what the reference knows"
    ),
    Column("unique", pa.bool_(), "", "no earlier row of this table matches"),
    Column("duplicate_of", pa.string(), "", "the earlier row that matches, if any"),
    STATUS,
)


def _pick(columns: Iterable[Column], *names: str) -> tuple[Column, ...]:
    """The columns of those names, in that order."""
    by_name = {column.name: column for column in columns}
    return tuple(by_name[name] for name in names)


_POLICY = Column("policy", pa.string(), "", "name of the policy that made the crystal")
_PREDICTED = tuple(column for column in PROPERTIES if column not in (ID, STATUS))
_KNOWN = _pick(NOVELTY, "novel", "rediscovered", "match_id", "match_role", "known_level")

#: What may be computed of a crystal to reward it, of the crystal as sampled: nothing is relaxed.
FIGURES = (
    Column("energy", _f, "eV/atom", "total energy of the potential, unrelaxed"),
    Column("formation_energy", _f, "eV/atom", "formation energy from the elemental references, unrelaxed"),
    Column("e_above_hull", _f, "eV/atom", "energy above the convex hull of the reference, unrelaxed"),
    *_pick(HULL, "hull_support"),
    Column("force", _f, "eV/Å", "largest force on an atom, unrelaxed"),
    *_PREDICTED,
)

#: One crystal a row with all that the stages say of it.
EVALUATED = (
    ID,
    _POLICY,
    *_pick(CRYSTALS, "formula"),
    _SPACE_GROUP,
    *_pick(CRYSTALS, "atomic_numbers", "frac_coords", "lattice"),
    Column("log_prob", _f, "nat", "log-probability under the policy that made it"),
    Column("shortest_distance", _f, "Å", "shortest distance of two atoms before relaxation"),
    Column("charge_balanced", pa.bool_(), "", "known oxidation states can sum to zero, or all elements are metals"),
    Column("valid", pa.bool_(), "", "a readable crystal whose atoms are more than 0.5 Å apart, before relaxation"),
    *_pick(RELAXED, "energy", "energy_initial", "evaluations", "converged"),
    *_pick(HULL, "formation_energy", "e_above_hull", "formation_energy_initial", "e_above_hull_initial"),
    *_pick(HULL, "decomposition_formulas", "hull_support", "suspect"),
    Column(
        "stable_initial", pa.bool_(), "", "at most the stability threshold above the hull, not suspect, before relaxation"
    ),
    Column("stable", pa.bool_(), "", "at most the stability threshold above the hull, not suspect, after relaxation"),
    *_PREDICTED,
    *_KNOWN,
    *_pick(NOVELTY, "unique", "duplicate_of"),
    Column("sun", pa.bool_(), "", "stable after relaxation, unique and novel"),
    Column("failed_stage", pa.string(), "", "the stage that failed first: sample, relax, hull or novelty"),
    Column("properties_status", pa.string(), "", "status of the property models, apart: stability does not need them"),
    STATUS,
)

_SHARES = {
    "valid": "readable crystals whose atoms are more than 0.5 Å apart, before relaxation",
    "charge_balanced": "crystals whose known oxidation states can sum to zero, or of metals alone",
    "completed": "crystals that passed relaxation, hull and novelty",
    "converged": "crystals whose relaxation converged",
    "stable_initial": "stable before relaxation",
    "stable": "stable after relaxation",
    "on_hull_initial": "at most 0 eV/atom above the hull before relaxation, suspects aside",
    "on_hull": "at most 0 eV/atom above the hull after relaxation, suspects aside",
    "suspect": "too far below the hull after relaxation to be believed; never counted as stable",
    "unique": "no earlier crystal of the same policy matches",
    "novel": "no pretraining structure matches",
    "rediscovered": "novel, and matches a held-out entry",
    "sun_initial": "stable before relaxation, unique and novel",
    "sun": "stable after relaxation, unique and novel",
}
_SHARE_COLUMNS = tuple(
    Column(f"{name}_{suffix}", type_, "", words + ending)
    for name, words in _SHARES.items()
    for suffix, type_, ending in (
        ("count", pa.int64(), ": number of crystals"),
        ("fraction", _f, ": fraction of all crystals sampled"),
        ("low", _f, ": lower end of the fraction's 95 % interval (Wilson)"),
        ("high", _f, ": upper end of the fraction's 95 % interval (Wilson)"),
    )
)
#: One row a policy. Fractions count all rows sampled in the denominator.
METRICS = (
    _POLICY,
    Column("n", pa.int64(), "", "crystals sampled: the denominator of every fraction"),
    Column("stability_threshold", _f, "eV/atom", "largest energy above hull that counts as stable"),
    *_SHARE_COLUMNS,
    Column(
        "e_above_hull_initial_mean", _f, "eV/atom", "mean energy above hull before relaxation, where known, suspects aside"
    ),
    Column("e_above_hull_initial_median", _f, "eV/atom", "its median"),
    Column("e_above_hull_mean", _f, "eV/atom", "mean energy above hull after relaxation, where known, suspects aside"),
    Column("e_above_hull_median", _f, "eV/atom", "its median"),
    Column("hull_support_q1", _f, "", "lower quartile of the number of competing compositions, hull_support"),
    Column("hull_support_median", _f, "", "its median"),
    Column("hull_support_q3", _f, "", "its upper quartile"),
    Column("stable_band_gap_mean", _f, "eV", "mean predicted band gap of the stable crystals"),
    Column("stable_fom_mean", _f, "eV", "mean predicted figure of merit of the stable crystals"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential spent on relaxation"),
    Column("known_levels", pa.string(), "", "crystals by what the reference knows of them, as JSON {level: count}"),
    Column("failures", pa.string(), "", "crystals that failed, as JSON {stage: {status: count}}"),
)

#: Crystals of all policies, each structure once, best first.
CANDIDATES = (
    Column("rank", pa.int64(), "", "place in the ranking, 1 is best"),
    ID,
    _POLICY,
    Column("found_by", pa.list_(pa.string()), "", "policies among whose crystals this structure is"),
    Column("found_count", pa.int64(), "", "crystals of all policies that are this structure"),
    *_pick(CRYSTALS, "formula"),
    _SPACE_GROUP,
    Column("verdict", pa.string(), "", "new, retrieved (from the pretraining set) or rediscovered (from the held-out set)"),
    *_pick(HULL, "e_above_hull", "e_above_hull_initial", "formation_energy"),
    *_pick(HULL, "decomposition_formulas", "hull_support", "suspect"),
    Column("stable", pa.bool_(), "", "at most the stability threshold above the hull, not suspect, after relaxation"),
    *_PREDICTED,
    *_KNOWN,
    *_pick(RELAXED, "converged"),
    *_pick(CRYSTALS, "atomic_numbers", "frac_coords", "lattice"),
    Column("cif", pa.string(), "", "the relaxed crystal as the text of a CIF file"),
)


REFERENCE = (
    *CRYSTALS_AND_TOKENS,
    Column("role", pa.string(), "", "pretraining (the policy saw it), held_out, or hull_only"),
    Column("source", pa.string(), "", "the collection the entry comes from"),
    Column("n_atoms", pa.int64(), "", "atoms in the primitive cell"),
    Column("energy", _f, "eV/atom", "total energy of the named potential"),
    Column("formation_energy", _f, "eV/atom", "formation energy from the elemental references"),
    Column("force_max", _f, "eV/Å", "largest force that relaxation left"),
    Column("stress_max", _f, "GPa", "largest stress component that relaxation left"),
    Column("evaluations", pa.int64(), "", "evaluations of the potential spent on the entry"),
    Column("dft_formation_energy", _f, "eV/atom", "PBE(+U) formation energy where known"),
    Column("dft_e_above_hull", _f, "eV/atom", "PBE(+U) energy above hull where known"),
    Column("dft_band_gap", _f, "eV", "PBE band gap where known"),
    STATUS,
)


def sha256(path: str | Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """Hex digest of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def provenance(stage: str, parameters: Mapping[str, Any], inputs: Iterable[str | Path] = (), **more: Any) -> dict[str, Any]:
    """What made a file: the stage, its parameters and their digest, inputs' digests, versions.

    Inputs are recorded by file name and content (files of one name with their folders'
    names before it), never by their place on the disk, so that two clones write the same
    bytes. `more` holds what a stage must say besides, such as `potential={...}`; a value of
    None is left out.
    """
    versions = {"crystalformer_rl": __version__, "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    record = {
        "stage": stage,
        "parameters": dict(parameters),
        "parameters_sha256": digest_json(dict(parameters)),
        "inputs": _digests(inputs),
        "versions": versions,
    }
    return record | {key: value for key, value in more.items() if value is not None}


def _digests(paths: Iterable[str | Path]) -> dict[str, str]:
    """Digests by file name, each with as many folders before it as tell files of one name apart."""
    found = list(dict.fromkeys(Path(path) for path in paths))
    return {_label(path, found): _digest(path) for path in found}


def _label(path: Path, others: list[Path]) -> str:
    for depth in range(1, len(path.parts)):
        if sum(other.parts[-depth:] == path.parts[-depth:] for other in others) == 1:
            return "/".join(path.parts[-depth:])
    return str(path)


def _digest(path: Path) -> str:
    """Of a file; of a folder, over the names and digests of the CIF files in it."""
    if path.is_dir():
        return digest_json({file.name: sha256(file) for file in path.glob("*.cif")})
    return sha256(path)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends without an error."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file to write to.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another place.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # last: some writers replace the file, and temporary files are private
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_table(columns: Iterable[Column], data: Mapping[str, Any]) -> pa.Table:
    """An Arrow table of the given columns, in their order; columns that `data` lacks are null."""
    columns = tuple(columns)
    length = len(next(iter(data.values()))) if data else 0
    arrays = [pa.array(data[c.name], c.type) if c.name in data else pa.nulls(length, c.type) for c in columns]
    return pa.Table.from_arrays(arrays, schema=pa.schema([c.field() for c in columns]))


def write_table(path: str | Path, table: pa.Table, made_by: Mapping[str, Any]) -> None:
    """Write `table` to `path` whole or not at all, with the provenance record `made_by`."""
    metadata = {PROVENANCE_KEY: json.dumps(made_by, sort_keys=True).encode()}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd", compression_level=12)


def read_table(path: str | Path, required: Iterable[Column] = (), *, allow_empty: bool = False) -> pa.Table:
    """Read a Parquet table that must have the `required` columns; further columns are kept.

    `material_id` is taken for `id`. A required column of another integer or float
    width is cast. Raises InputError that names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist; check the path, or run the stage that writes it.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({_first_line(error)}); make it again.") from error
    if "id" not in table.column_names and "material_id" in table.column_names:
        table = table.rename_columns(["id" if name == "material_id" else name for name in table.column_names])
    for column in required:
        if column.name not in table.column_names:
            raise InputError(
                f"{path} has no column '{column.name}' ({column.meaning}); it has {', '.join(table.column_names)}."
            )
        index = table.column_names.index(column.name)
        if table.schema.field(index).type != column.type:
            try:
                table = table.set_column(index, column.field(), table.column(index).cast(column.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                found = table.schema.field(index).type
                raise InputError(
                    f"{path}, column '{column.name}': expected {column.type}, found {found}; convert it."
                ) from error
    if not allow_empty and table.num_rows == 0:
        raise InputError(f"{path} holds no rows; give a table with at least one crystal.")
    return table


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance record of a Parquet file; empty for a file of other origin."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({_first_line(error)}); make it again.") from error
    return json.loads(metadata.get(PROVENANCE_KEY, b"{}"))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")
