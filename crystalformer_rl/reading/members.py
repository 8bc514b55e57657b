"""Which files of a folder or an archive are its crystals, and which are left, with the reason."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.files import LARGEST, REFUSED, Content, Kind, content, read_content

_ONE_STRUCTURE = (".res", ".xsf", ".cell", ".gen", ".cfg")
"""Suffixes of formats of ASE that hold a crystal a file, so that a folder of them is one of crystals."""

_READ = (Kind.CIF, Kind.POSCAR, Kind.JSON, Kind.JSON_LINES, Kind.FRAMES)
_TRAJECTORY = "trajector"


@dataclass(frozen=True)
class Left:
    """A file of a folder or archive that is not read, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Members:
    """The files of a folder or archive that are read as crystals, and those that are left."""

    contents: tuple[Content, ...]
    left: tuple[Left, ...]


def members_of_folder(folder: Path) -> Members:
    """The files of a folder, by name; folders in it are left. Raises InputError for a folder that may not be read."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); check its permissions.") from error
    return _sorted([_member_of_folder(path) for path in paths])


def members_of_archive(archive: Content, source: str) -> Members:
    """The files of a zip or tar archive, by name. Nothing is written to the disk. Raises InputError for a damaged one."""
    if _TRAJECTORY in archive.name.lower():
        raise InputError(
            f"{source} holds the steps by which crystals were generated or relaxed, and no results; give the crystals "
            "themselves (of MatterGen generated_crystals.extxyz)."
        )
    try:
        files = sorted(_files(archive), key=lambda item: item[0])
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"{source} cannot be unpacked ({reason}); get it again, or unpack it and give the folder."
        ) from error
    return _sorted([_member_of_archive(name, data, source) for name, data in files])


def _sorted(found: Sequence[Content | Left]) -> Members:
    return Members(
        tuple(member for member in found if isinstance(member, Content)),
        tuple(member for member in found if isinstance(member, Left)),
    )


def _member_of_folder(path: Path) -> Content | Left:
    if path.is_dir():
        return Left(path.name, "a folder; give it too if it holds crystals")
    if path.name.startswith("."):
        return Left(path.name, "a hidden file")
    if not path.is_file():
        return Left(path.name, "no plain file")
    return _read_or_left(path.name, lambda: read_content(path))


def _member_of_archive(name: str, data: bytes | str, source: str) -> Content | Left:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or re.match(r"[A-Za-z]:[\\/]", name):
        return Left(name, "its name leads out of the archive")
    if "__MACOSX" in pure.parts or pure.name.startswith("."):
        return Left(name, "a hidden file")
    if isinstance(data, str):
        return Left(name, data)
    return _read_or_left(name, lambda: content(pure.as_posix(), data, f"{source}: {name}"))


def _read_or_left(name: str, read: Callable[[], Content]) -> Content | Left:
    try:
        member = read()
    except InputError as error:
        return Left(name, str(error).rstrip("."))
    why = _why_left(member)
    return member if why is None else Left(name, why)


def _why_left(member: Content) -> str | None:
    if member.kind in REFUSED:
        return f"{member.kind}: {REFUSED[member.kind]}"
    if _TRAJECTORY in member.name.lower():
        return "the steps by which crystals were generated or relaxed"
    if member.kind in (Kind.PARQUET, Kind.CSV):
        return f"{member.kind}; give it by its own name"
    if member.kind in (Kind.ZIP, Kind.TAR):
        return f"{member.kind}; give it by its own name"
    if member.kind in _READ or member.name.lower().endswith(_ONE_STRUCTURE):
        return None
    return "no format that is read in a folder; give it by its own name if it holds crystals"


def _files(archive: Content) -> Iterator[tuple[str, bytes | str]]:
    """Name and bytes of each file, or the reason why it has none."""
    total = 0
    if archive.kind is Kind.ZIP:
        with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
            for info in packed.infolist():
                if info.is_dir():
                    continue
                total += info.file_size
                yield info.filename, packed.read(info) if _admitted(total) else b""
        return
    with tarfile.open(fileobj=io.BytesIO(archive.data)) as tape:
        for member in tape:
            if member.isdir():
                continue
            total += member.size
            stream = tape.extractfile(member) if member.isfile() and _admitted(total) else None
            yield member.name, "no plain file" if stream is None else stream.read()


def _admitted(total: int) -> bool:
    if total > LARGEST:
        raise ValueError(f"it unpacks to more than {LARGEST >> 30} GiB")
    return True


def distinct_stems(contents: Sequence[Content]) -> list[str]:
    """What the crystals of each file are called by: its stem, or its whole name where another has the same stem."""
    counts = Counter(member.stem for member in contents)
    return [member.name if counts[member.stem] > 1 else member.stem for member in contents]
