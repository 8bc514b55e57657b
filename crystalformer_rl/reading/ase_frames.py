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

_UNFIT = {
    "lammps-dump-text": "numbers types of atoms, not elements",
    "lammps-dump-binary": "numbers types of atoms, not elements",
    "lammps-data": "numbers types of atoms, not elements",
    "proteindatabank": "lists the asymmetric unit, whose symmetry is not read",
    "vasp-xdatcar": "holds the steps of a run",
}
"""Formats of ASE from which a crystal is not had without further knowledge, and why."""


def crystals_of_frames(content: Content, name: str, source: str) -> list[Found]:
    """A row for each frame of a file in a format of ASE. Raises InputError, naming `source`, where it reads none."""
    images = _images(content, source)
    if not images:
        raise InputError(f"{source} holds no structures; give a file with at least one crystal.")
    note = None
    if _is_run(content) and len(images) > 1:
        images, note = images[-1:], f"the last of {len(images)} steps"
    names = [name] if len(images) == 1 else [f"{name}-{i}" for i in range(len(images))]
    return [crystal_of_atoms(atoms, own, note) for atoms, own in zip(images, names, strict=True)]


def _is_run(content: Content) -> bool:
    return any(part in content.name.lower() for part in _RUNS) or b"<modeling>" in content.data[:2000]


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
    """ASE keeps the occupancies of a CIF aside and one element of each site in their place; other formats have a column of them."""
    kinds = atoms.info.get("occupancy")
    for site, shares in kinds.items() if isinstance(kinds, dict) else ():
        if len(shares) > 1 or any(abs(float(share) - 1) > _FULL for share in shares.values()):
            words = ", ".join(f"{element} {share:g}" for element, share in shares.items())
            raise NotRead(Status.DISORDERED, f"site kind {site} is occupied by {words}")
    for column in ("occupancy", "occupancies"):
        shares = atoms.arrays.get(column)
        if shares is not None and np.issubdtype(shares.dtype, np.number) and (np.abs(shares - 1) > _FULL).any():
            k = int(np.argmax(np.abs(shares - 1)))
            raise NotRead(Status.DISORDERED, f"atom {k + 1} has the occupancy {float(shares[k]):g}")


_FULL = 2e-3


def _images(content: Content, source: str) -> list[Any]:
    import ase.io

    try:
        if content.kind is Kind.FRAMES:
            return list(ase.io.read(io.StringIO(_frames_text(content.text)), index=":", format="extxyz"))  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as folder:
            path = content.path
            if path is None:
                path = Path(folder) / Path(content.name).name
                path.write_bytes(content.data)
            kind = ase.io.formats.filetype(str(path))
            _check_format(kind, content)
            xml = b"<modeling>" in content.data[:2000]
            return list(ase.io.read(path, index=":", format="vasp-xml" if xml else kind))
    except InputError as error:
        raise InputError(f"{source} {error}") from error
    # ASE's readers raise whatever their format's parser raises.
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"{source} is {content.kind} that cannot be read ({reason}); give CIF, POSCAR, Parquet, CSV, JSON of structures, "
            "extended XYZ or a format of ASE."
        ) from error


def _check_format(kind: str, content: Content) -> None:
    """Raises InputError, without the file's name, for formats in which ASE's reader does not find what the file means."""
    if kind in _UNFIT:
        raise InputError(f"is of a format that {_UNFIT[kind]} ({kind}); write the crystal as CIF, POSCAR or extended XYZ.")
    if kind in ("res", "shelx"):
        lines = [line.split() for line in content.text.splitlines() if line.strip()]
        lattice = [line[1] for line in lines if line[0].upper() == "LATT" and len(line) > 1]
        if lattice != ["-1"] or any(line[0].upper() == "SYMM" for line in lines):
            raise InputError("is a SHELX file with symmetry, which is not read (LATT -1 without SYMM is); write it as CIF.")


def _frames_text(text: str) -> str:
    """Extended XYZ without empty lines between frames, where ASE would stop. Raises InputError, without the file's name, for what follows no frame."""
    lines, at, kept = text.split("\n"), 0, []
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        if not lines[at].strip().isdigit():
            raise InputError(
                f"has '{lines[at].strip()[:40]}' in line {at + 1}, where a frame's number of atoms should stand; correct it."
            )
        n = int(lines[at]) + 2
        if at + n > len(lines) or (n > 2 and not all(line.strip() for line in lines[at + 2 : at + n])):
            raise InputError(f"counts {n - 2} atoms in line {at + 1} and lists fewer; correct it.")
        kept += lines[at : at + n]
        at += n
    return "\n".join(kept) + "\n"
