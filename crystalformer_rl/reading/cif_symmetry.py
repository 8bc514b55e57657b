"""Which symmetry operations a CIF's block means: those it lists, else those its symbols and its cell leave no doubt of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from crystalformer_rl.reading.cif_block import CifBlock
from crystalformer_rl.reading.found import NotRead
from crystalformer_rl.tables.status import Status

_OPERATIONS = (
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop_magn_operation_xyz",
)
_CENTRINGS = ("_space_group_symop_magn_centering_xyz",)
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_HERMANN_MAUGUIN = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m_ref",
)
_NUMBER = ("_space_group_it_number", "_symmetry_int_tables_number")
_CODE = ("_space_group_it_coordinate_system_code",)
_SUFFIXES = {"1": "1", "S": "1", "2": "2", "Z": "2", "H": "H", "HR": "H", "R": "R", "RS": "R"}
"""What follows a symbol, by International Tables or by the ICSD: the setting that it means."""

_LENGTHS, _ANGLES = 5e-3, 0.5  # relative and degrees: how exactly a cell must have the shape that its group demands


@dataclass(frozen=True)
class Symmetry:
    """One way to read a block's symmetry: rotations (n, 3, 3) and translations (n, 3), fractional, identity among them.

    words: how it is called. doubt: what else in the block contradicts it, in words; None where nothing does.
    """

    rotations: np.ndarray
    translations: np.ndarray
    words: str
    doubt: str | None = None


def symmetries(block: CifBlock, cell: np.ndarray) -> list[Symmetry]:
    """The ways to read a block's symmetry that its cell (a, b, c, α, β, γ; Å, degrees) admits; one where nothing is in doubt.

    Operations listed are taken; else those of the Hall symbol; else of the settings of the Hermann-Mauguin symbol or the number that
    fit the suffix and the cell. Empty where a block says nothing of symmetry. Raises NotRead where it says what cannot be.
    """
    stated = _Stated.of(block)
    listed = _listed(block)
    if listed is not None:
        words = "P 1" if len(listed[0]) == 1 else f"{len(listed[0])} operations"
        return [_fitting(Symmetry(*listed, words, stated.doubt_of(*listed)), cell)]
    if stated.conflict is not None:
        raise NotRead(Status.SYMMETRY_UNCLEAR, f"{stated.conflict}, and no operations are listed")
    hall = block.value(*_HALL)
    operations = None if hall is None else _of_hall(hall)
    if operations is not None:
        doubt = stated.doubt_of(*operations)
        if doubt is not None:
            raise NotRead(Status.SYMMETRY_UNCLEAR, f"the Hall symbol {hall} is of another group: {doubt}")
        return [_fitting(Symmetry(*operations, f"Hall symbol {hall}"), cell)]
    if stated.unknown:
        raise NotRead(
            Status.SYMMETRY_UNCLEAR,
            f"the space-group symbol '{stated.unknown[0]}' is not known, and no operations are listed",
        )
    if hall is not None and not stated.settings:
        raise NotRead(Status.SYMMETRY_UNCLEAR, f"the Hall symbol '{hall}' is not known, and no operations are listed")
    return _fitting_settings(_for_cell(stated.settings, block, cell), cell, by_symbol=stated.by_symbol)


@dataclass(frozen=True)
class _Stated:
    """What a block states of its space group besides operations.

    settings: of the tables, that all symbols and the number allow. by_symbol: whether a symbol chose them; unknown: symbols that
    are in no table; conflict: two statements of two groups, in words.
    """

    settings: list[Any]
    by_symbol: bool
    unknown: list[str]
    conflict: str | None

    @classmethod
    def of(cls, block: CifBlock) -> _Stated:
        import gemmi

        table = list(gemmi.spacegroup_table())
        given = [text for text in dict.fromkeys(block.value(name) for name in _HERMANN_MAUGUIN) if text is not None]
        stated = block.value(*_NUMBER)
        number = int(stated) if stated is not None and re.fullmatch(r"\d{1,3}", stated) and 1 <= int(stated) <= 230 else None
        found = {text: _of_symbol(text, table) for text in given}
        known = {text: settings for text, settings in found.items() if settings}
        claims = {text: {s.number for s in settings} for text, settings in known.items()}
        if number is not None:
            claims[f"number {number}"] = {number}
        common = set.intersection(*claims.values()) if claims else set()
        conflict = None if common or not claims else f"{' and '.join(claims)} are of different space groups"
        settings = [s for s in table if s.number == number]
        for allowed in known.values():
            names = {s.xhm() for s in allowed}
            # the symbol with the suffix narrows one without
            settings = [s for s in settings if s.xhm() in names] if settings else allowed
        return cls(settings, bool(known), [text for text in given if text not in known], conflict)

    def doubt_of(self, rotations: np.ndarray, translations: np.ndarray) -> str | None:
        """How operations contradict what is stated, in words; None where they do not."""
        if self.conflict is not None:
            return self.conflict
        if self.unknown and len(rotations) == 1:
            return f"the symbol '{self.unknown[0]}' stands beside the identity alone"
        numbers = {s.number for s in self.settings}
        if not numbers:
            return None
        own = _number_of(rotations, translations)
        same = own in numbers if own is not None else any(len(rotations) in _orders(number) for number in numbers)
        return None if same else f"the file states space group {', '.join(map(str, sorted(numbers)))}"


def _fitting_settings(settings: list[Any], cell: np.ndarray, by_symbol: bool) -> list[Symmetry]:
    """Of the settings that a symbol or a number allows, those whose demands the cell meets."""
    ways = [Symmetry(*_arrays(s.operations()), s.xhm()) for s in settings]
    fitting = [way for way in ways if fits_cell(way.rotations, cell)]
    if ways and not fitting:
        raise NotRead(Status.SYMMETRY_UNCLEAR, f"the cell has not the shape that {ways[0].words} demands")
    if by_symbol:
        # a short monoclinic symbol means the axis b, where the cell leaves it open
        usual = [way for way in fitting if re.search(r" 1 \S+ 1$", way.words)]
        return usual if len(usual) == 1 else fitting
    if len({way.words.split(":")[0] for way in fitting}) > 1:
        raise NotRead(
            Status.SYMMETRY_UNCLEAR,
            f"no operations are listed, and the number {settings[0].number} alone may mean {', '.join(w.words for w in fitting)}; "
            "add the operations or the symbol",
        )
    return fitting


def fits_cell(rotations: np.ndarray, cell: np.ndarray) -> bool:
    """Whether rotations (n, 3, 3), fractional, leave the lengths and angles of a cell as they are."""
    metric = _metric(cell)
    lengths = np.sqrt(np.diagonal(metric))
    scale = np.outer(lengths, lengths)
    turned = np.einsum("nki,kl,nlj->nij", rotations, metric, rotations)
    tolerance = np.where(np.eye(3) > 0, 2 * _LENGTHS, np.radians(_ANGLES) + _LENGTHS)
    return bool((np.abs(turned - metric) <= tolerance * scale).all())


def _orders(number: int) -> set[int]:
    """Numbers of operations in a cell of a space group, centrings included, in all of its settings."""
    import gemmi

    return {len(s.operations()) for s in gemmi.spacegroup_table() if s.number == number}


def _number_of(rotations: np.ndarray, translations: np.ndarray) -> int | None:
    """The space group that operations make in one of the tabulated settings; None in another."""
    import gemmi

    operations = []
    for rotation, translation in zip(rotations, translations, strict=True):
        operation = gemmi.Op()
        operation.rot, operation.tran = (np.rint(24 * x).astype(int).tolist() for x in (rotation, translation))
        operations.append(operation)
    found = gemmi.find_spacegroup_by_ops(gemmi.GroupOps(operations))
    return None if found is None else int(found.number)


def _fitting(found: Symmetry, cell: np.ndarray) -> Symmetry:
    if not fits_cell(found.rotations, cell):
        raise NotRead(Status.SYMMETRY_UNCLEAR, f"the cell has not the shape that its symmetry ({found.words}) demands")
    return found


def _metric(cell: np.ndarray) -> np.ndarray:
    cosines = np.cos(np.radians(cell[3:]))
    angles = np.array([[1, cosines[2], cosines[1]], [cosines[2], 1, cosines[0]], [cosines[1], cosines[0], 1]])
    return np.outer(cell[:3], cell[:3]) * angles


def _listed(block: CifBlock) -> tuple[np.ndarray, np.ndarray] | None:
    """The operations that a block lists, centrings of a magnetic one applied; None for none."""
    cells = block.column(*_OPERATIONS)
    if cells is None or all(cell.strip() in ("", "?", ".") for cell in cells):
        return None
    operations = [_operation(cell) for cell in cells]
    for cell in block.column(*_CENTRINGS) or []:
        rotation, shift = _operation(cell)
        operations += [(rotation @ r, rotation @ t + shift) for r, t in operations]
    distinct = {_key(r, t): (r, t) for r, t in operations}
    rotations, translations = (np.array(part) for part in zip(*distinct.values(), strict=True))
    if not _is_group(rotations, translations):
        raise NotRead(
            Status.SYMMETRY_UNCLEAR, f"the {len(distinct)} operations listed do not make a group; list all of them, or none"
        )
    return rotations, translations


def _operation(text: str) -> tuple[np.ndarray, np.ndarray]:
    """`-x+1/2, y, z` as rotation (3, 3) and translation (3); a fourth part, time reversal, moves no nucleus."""
    parts = text.strip().strip("'\"").split(",")
    try:
        if len(parts) not in (3, 4):
            raise ValueError(text)
        rows = [_row(part) for part in parts[:3]]
    except ValueError as error:
        raise NotRead(Status.SYMMETRY_UNCLEAR, f"the operation '{text.strip()}' is not understood") from error
    rotation = np.array([row[:3] for row in rows])
    if abs(abs(np.linalg.det(rotation)) - 1) > 1e-6:
        raise NotRead(Status.SYMMETRY_UNCLEAR, f"the operation '{text.strip()}' is no symmetry operation")
    return rotation, _exact(np.array([row[3] for row in rows]))


def _row(text: str) -> list[float]:
    """`-x+1/2` as [-1, 0, 0, 0.5]."""
    row = [0.0, 0.0, 0.0, 0.0]
    terms = re.findall(r"[-+]?[^-+]+", re.sub(r"\s", "", text.lower()))
    if not terms or "".join(terms) != re.sub(r"\s", "", text.lower()):
        raise ValueError(text)
    for term in terms:
        match = re.fullmatch(r"([-+]?)(?:(\d+\.?\d*|\.\d+)(?:/(\d+))?\*?)?([xyz])?", term)
        if match is None or (match[2] is None and match[4] is None):
            raise ValueError(text)
        value = float(match[2] or 1) / float(match[3] or 1) * (-1 if match[1] == "-" else 1)
        row["xyz".index(match[4]) if match[4] else 3] += value
    return row


def _exact(translation: np.ndarray) -> np.ndarray:
    """Translations that were written as decimals (0.3333) as the simple fractions that they mean."""
    exact = np.rint(translation * 24) / 24
    return np.where(np.abs(exact - translation) < 2e-3, exact, translation) % 1.0


def _of_hall(symbol: str) -> tuple[np.ndarray, np.ndarray] | None:
    import gemmi

    try:
        return _arrays(gemmi.symops_from_hall(symbol))
    # what the library makes of an unknown symbol, or of other text in its place
    except (RuntimeError, ValueError):
        return None


def _arrays(operations: Any) -> tuple[np.ndarray, np.ndarray]:
    listed = list(operations)
    rotations = np.array([operation.rot for operation in listed], float) / 24
    return rotations, np.array([operation.tran for operation in listed], float) / 24 % 1.0


def _key(rotation: np.ndarray, translation: np.ndarray) -> tuple[int, ...]:
    return (*np.rint(rotation).astype(int).ravel().tolist(), *(np.rint(translation * 1000).astype(int) % 1000).tolist())


def _is_group(rotations: np.ndarray, translations: np.ndarray) -> bool:
    """Whether the product of any two operations is an operation."""
    known = {_key(r, t) for r, t in zip(rotations, translations, strict=True)}
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 3, 3)
    shifts = (np.einsum("aij,bj->abi", rotations, translations) + translations[:, None]).reshape(-1, 3) % 1.0
    keys = np.concatenate([np.rint(products).reshape(-1, 9), np.rint(_exact_all(shifts) * 1000) % 1000], axis=1).astype(int)
    return {tuple(key) for key in np.unique(keys, axis=0).tolist()} <= known


def _exact_all(shifts: np.ndarray) -> np.ndarray:
    exact = np.rint(shifts * 24) / 24
    return np.where(np.abs(exact - shifts) < 2e-3, exact, shifts) % 1.0


def _for_cell(settings: list[Any], block: CifBlock, cell: np.ndarray) -> list[Any]:
    """Of the settings those that the coordinate-system code means, and of rhombohedral ones those with the axes of the cell."""
    code = (block.value(*_CODE) or "").upper()
    if code in _SUFFIXES:
        settings = [s for s in settings if s.ext in ("\0", _SUFFIXES[code])] or settings
    if len({s.ext for s in settings}) == 1:
        return settings
    return [s for s in settings if s.ext not in ("H", "R") or s.ext == _axes(cell)]


def _of_symbol(given: str, table: list[Any]) -> list[Any]:
    """Settings of a symbol such as `F d -3 m :2`, `R-3m H`, `P 21/c` or `P6_3/mmc`; several where it leaves some open."""
    match = re.fullmatch(r"\s*(.*?)\s*(?::\s*([12HRhr])|\s?(HR|RS|[SZHR]))?\s*", given.strip("'\""))
    assert match is not None  # every text fits
    bare, suffix = match[1], _SUFFIXES.get((match[2] or match[3] or "").upper())
    wanted = _spelled(bare)
    found = [s for s in table if _spelled(s.hm) == wanted]
    found = found or [s for s in table if 3 <= s.number <= 15 and _spelled(s.hm.replace(" 1", "")) == wanted]
    found = found or _by_other_names(bare, table)
    return [s for s in found if suffix is None or s.ext in ("\0", suffix)]


def _by_other_names(bare: str, table: list[Any]) -> list[Any]:
    """Settings by symbols of today that the table has under their old names (`C m c e`)."""
    import gemmi

    try:
        known = gemmi.find_spacegroup_by_name(bare)
    except (RuntimeError, ValueError):
        return []
    return [] if known is None else [s for s in table if s.hm == known.hm]


def _spelled(symbol: str) -> str:
    """A symbol without blanks, underscores and brackets, for comparison."""
    return re.sub(r"[\s_()]", "", symbol).lower()


def _axes(cell: np.ndarray) -> str:
    """`H` or `R`: which axes a rhombohedral lattice is described with, by the shape of the cell."""
    return (
        "R" if np.ptp(cell[:3]) <= 2 * _LENGTHS * cell[0] and np.ptp(cell[3:]) <= _ANGLES and abs(cell[5] - 120) > 1 else "H"
    )
