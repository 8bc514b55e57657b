"""Crystals of the many formats that ASE reads, periodicity and occupancies as the file gives them."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.files import Content, Kind
from crystalformer_rl.reading.found import Found, NotRead, found, not_read
from crystalformer_rl.reading.structure_dict import check_periodic
from crystalformer_rl.tables.status import Status

_RUNS = ("outcar", "vasprun")
"""Files of one calculation, whose frames are its steps; the last is what it led to."""


def crystals_of_frames(content: Content, name: str, source: str) -> list[Found]:
    """A row for each frame of a file in a format of ASE. Raises InputError, naming `source`, where it reads none."""
    images = _images(content, source)
    if not images:
        raise InputError(f"{source} holds no structures; give a file with at least one crystal.")
    note = None
    if content.name.lower().startswith(_RUNS) and len(images) > 1:
        images, note = images[-1:], f"the last of {len(images)} steps"
    names = [name] if len(images) == 1 else [f"{name}-{i}" for i in range(len(images))]
    return [crystal_of_atoms(atoms, name, note) for atoms, name in zip(images, names, strict=True)]


def crystal_of_atoms(atoms: Any, name: str, note: str | None = None) -> Found:
    """ASE's Atoms as a row: not periodic, disordered or without lattice where they say so."""
    cell = np.array(atoms.cell, float)
    try:
        if np.linalg.matrix_rank(cell) < 3:
            raise NotRead(Status.BAD_LATTICE, "no lattice, so a molecule and no crystal")
        check_periodic(atoms.pbc)
        _check_occupancies(atoms)
    except NotRead as error:
        return not_read(name, error)
    return found(name, Crystal(np.array(atoms.numbers, int), np.array(atoms.get_scaled_positions(wrap=False)), cell), note)


def _check_occupancies(atoms: Any) -> None:
    """ASE keeps the occupancies of a CIF aside and one element of each site in their place."""
    for site, shares in (atoms.info.get("occupancy") or {}).items():
        if len(shares) > 1 or any(abs(float(share) - 1) > 2e-3 for share in shares.values()):
            words = ", ".join(f"{element} {share:g}" for element, share in shares.items())
            raise NotRead(Status.DISORDERED, f"site kind {site} is occupied by {words}")


def _images(content: Content, source: str) -> list[Any]:
    import ase.io

    try:
        if content.kind is Kind.FRAMES:
            return list(ase.io.read(io.StringIO(content.text), index=":", format="extxyz"))  # type: ignore[arg-type]
        if content.path is not None:
            return list(ase.io.read(content.path, index=":"))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / Path(content.name).name
            copy.write_bytes(content.data)
            return list(ase.io.read(copy, index=":"))
    # ASE's readers raise whatever their format's parser raises.
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"{source} is {content.kind} that cannot be read ({reason}); give CIF, POSCAR, Parquet, CSV, JSON of structures, "
            "extended XYZ or a format of ASE."
        ) from error
