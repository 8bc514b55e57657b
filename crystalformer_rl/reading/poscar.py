"""Crystals of POSCAR and CONTCAR files, elements only from where the file names them."""

from __future__ import annotations

import numpy as np

from crystalformer_rl.crystal.elements import ATOMIC_NUMBERS
from crystalformer_rl.crystal.structure import Crystal
from crystalformer_rl.reading.cif_species import HYDROGEN
from crystalformer_rl.reading.files import is_poscar
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
        counts = _counts(lines[6 if named else 5])
        at = 7 if named else 6
        at += lines[at].strip()[:1].lower() == "s"  # selective dynamics
        mode = lines[at].strip()[:1].lower()
        rows = [line.split() for line in lines[at + 1 : at + 1 + sum(counts)]]
    except (ValueError, IndexError) as error:
        raise NotRead(Status.UNREADABLE, f"no valid POSCAR: {error}") from error
    if not mode.isalpha():
        raise NotRead(Status.UNREADABLE, f"no line says Direct or Cartesian, where '{lines[at].strip()}' stands")
    points = _points(rows, sum(counts))
    _check_rest(lines[at + 1 + sum(counts) :])
    behind = [next((word for word in row[3:] if word[:1].isalpha() and word not in ("T", "F")), "") for row in rows]
    symbols, note = _symbols(lines[5].split() if named else None, counts, lines[0].split(), behind)
    numbers = np.array([_atomic_number(symbol) for symbol in symbols], int)
    lattice = lattice * scale
    if not np.isfinite(lattice).all() or abs(np.linalg.det(lattice)) < 1e-6:
        raise NotRead(Status.BAD_LATTICE, "the three vectors enclose no volume")
    return Crystal(numbers, points * scale @ np.linalg.inv(lattice) if mode in ("c", "k") else points, lattice), note


def _points(rows: list[list[str]], n: int) -> np.ndarray:
    """(n, 3) coordinates. Raises NotRead for other than n lines of three numbers."""
    found = []
    for row in rows:
        try:
            found.append([float(x) for x in row[:3]])
        except ValueError:
            break
        if len(found[-1]) != 3:
            raise NotRead(Status.BAD_COORDINATES, f"the line '{' '.join(row)}' has not three coordinates")
    if len(found) != n:
        raise NotRead(Status.UNREADABLE, f"the POSCAR counts {n} atoms and lists {len(found)}")
    return np.array(found).reshape(-1, 3)


def _check_rest(rest: list[str]) -> None:
    """What may follow the atoms are velocities, after an empty line: no further atoms, and no second structure."""
    first = rest[0].strip() if rest else ""
    if first and not first.lower().startswith("lattice vel"):
        raise NotRead(
            Status.UNREADABLE,
            f"after the atoms counted follows '{first}': more atoms, or another structure; give a file each",
        )
    if any(is_poscar(rest[k : k + 8]) for k in range(len(rest))):
        raise NotRead(Status.UNREADABLE, "several structures in one file; give a file each")


def _counts(line: str) -> list[int]:
    """Whole numbers of atoms, before a comment. Raises NotRead for others."""
    words = line.split("!")[0].split("#")[0].split("/")[0].split()
    if not words or not all(word.isdigit() for word in words):
        raise NotRead(
            Status.UNREADABLE, f"the numbers of atoms are '{line.strip()}', not whole numbers with blanks between them"
        )
    return [int(word) for word in words]


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
    if len(named) != len(counts):
        raise NotRead(Status.UNREADABLE, f"the POSCAR names {len(named)} elements and gives {len(counts)} numbers of atoms")
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
