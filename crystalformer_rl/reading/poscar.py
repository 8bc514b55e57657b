"""Crystals of POSCAR and CONTCAR files, elements only from where the file names them."""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.reading.cif_species import HYDROGEN
from crystalformer_rl.reading.found import Found, NotRead, found, not_read
from crystalformer_rl.tables.status import Status


def crystals_of_poscar(text: str, name: str) -> list[Found]:
    """The one crystal of a POSCAR, of VASP 5 or 4, or the row that says what is wrong with it."""
    try:
        return [found(name, *_read(text.splitlines()))]
    except NotRead as error:
        return [not_read(name, error)]


def _read(lines: list[str]) -> tuple[Crystal, str | None]:
    try:
        lattice = np.array([[float(x) for x in line.split()[:3]] for line in lines[2:5]])
        scale = _scale(lines[1], lattice)
        named = not lines[5].split()[0].isdigit()
        counts = [int(x) for x in _before_words(lines[6 if named else 5])]
        at = 7 if named else 6
        at += lines[at].strip()[:1].lower() == "s"  # selective dynamics
        cartesian = lines[at].strip()[:1].lower() in ("c", "k")
        rows = [line.split() for line in lines[at + 1 : at + 1 + sum(counts)]]
        points = np.array([[float(x) for x in row[:3]] for row in rows]).reshape(-1, 3)
    except (ValueError, IndexError) as error:
        raise NotRead(Status.UNREADABLE, f"no valid POSCAR: {error}") from error
    if len(points) != sum(counts):
        raise NotRead(Status.UNREADABLE, f"the POSCAR counts {sum(counts)} atoms and lists {len(points)}")
    behind = [next((word for word in row[3:] if word[:1].isalpha() and word not in ("T", "F")), "") for row in rows]
    symbols, note = _symbols(lines[5].split() if named else None, counts, lines[0].split(), behind)
    numbers = np.array([_atomic_number(symbol) for symbol in symbols], int)
    lattice = lattice * scale
    if not np.isfinite(lattice).all() or abs(np.linalg.det(lattice)) < 1e-6:
        raise NotRead(Status.BAD_LATTICE, "the three vectors enclose no volume")
    return Crystal(numbers, points * scale @ np.linalg.inv(lattice) if cartesian else points, lattice), note


def _before_words(line: str) -> list[str]:
    """The whole numbers at the beginning of a line, before a comment."""
    words = line.split()
    return words[: next((k for k, word in enumerate(words) if not word.isdigit()), len(words))]


def _scale(line: str, lattice: np.ndarray) -> np.ndarray:
    """(3,) factors of x, y and z: one for all, three, or by the volume that a negative number states."""
    values = [float(x) for x in line.split("!")[0].split("#")[0].split()[:3]]
    if len(values) == 3:
        return np.array(values)
    if values[0] < 0:
        return np.full(3, (-values[0] / abs(np.linalg.det(lattice))) ** (1 / 3))
    return np.full(3, values[0])


def _symbols(
    named: list[str] | None, counts: list[int], comment: list[str], behind: list[str]
) -> tuple[list[str], str | None]:
    """The symbol of each atom: of the line of symbols, else of a comment that is nothing but symbols, else behind the coordinates."""
    note = None
    if named is None and len(comment) == len(counts) and all(_is_symbol(word) for word in comment):
        named, note = comment, "no line of symbols, so the elements of the comment, which is nothing else"
    bare = [_bare(word) for word in behind]
    complete = all(_is_symbol(word) for word in bare)
    if named is None:
        if not complete:
            raise NotRead(
                Status.UNREADABLE,
                "the POSCAR has no line of element symbols, and its comment is no list of them; add the line before the counts",
            )
        return bare, "no line of symbols, so the elements behind the coordinates"
    if len(named) < len(counts):
        raise NotRead(Status.UNREADABLE, f"the POSCAR names {len(named)} elements and counts {len(counts)}")
    symbols = [_bare(word) for word, count in zip(named, counts, strict=False) for _ in range(count)]
    if complete and [_atomic_number(word) for word in bare] != [_atomic_number(word) for word in symbols]:
        raise NotRead(Status.FORMULA_MISMATCH, "the symbols behind the coordinates are not those of the line of symbols")
    return symbols, note


def _bare(word: str) -> str:
    """`Fe_pv/0a1b2c` → `Fe`."""
    return word.split("/")[0].split("_")[0]


def _is_symbol(word: str) -> bool:
    return HYDROGEN.get(word, word) in ATOMIC_NUMBERS


def _atomic_number(word: str) -> int:
    if not _is_symbol(word):
        raise NotRead(Status.UNKNOWN_ELEMENT, f"'{word}' in the line of symbols is no element")
    return ATOMIC_NUMBERS[HYDROGEN.get(word, word)]
