"""What a file is, told from its bytes before any library sees it: compression, encoding, kind."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from crystalformer_rl.errors import InputError

_HEAD = 1 << 16
LARGEST = 4 << 30
"""Bytes; unpacked files beyond are refused, since a few kilobytes of zeros may pack them."""


class Kind(StrEnum):
    """What a file's content is. The value is how a sentence calls it."""

    PARQUET = "a Parquet table"
    CSV = "a CSV table"
    CIF = "a CIF"
    POSCAR = "a POSCAR"
    JSON = "JSON"
    JSON_LINES = "JSON lines"
    ZIP = "a zip archive"
    TAR = "a tar archive"
    SPREADSHEET = "a spreadsheet"
    NUMPY = "an archive of NumPy arrays"
    PICKLE = "a Python pickle"
    HDF5 = "an HDF5 file"
    WEB_PAGE = "a web page"
    LFS_POINTER = "a Git LFS pointer, the note that stands for a file"
    EMPTY = "an empty file"
    FRAMES = "a file of frames"
    OTHER = "a file of an unknown kind"


#: Kinds that hold no crystals that can be read, and the way there.
REFUSED = {
    Kind.SPREADSHEET: "save the sheet as CSV",
    Kind.NUMPY: "write its crystals as Parquet with id, atomic_numbers, frac_coords and lattice",
    Kind.PICKLE: "unpickling runs code, so no pickle is read; write the table with to_parquet, or structures as CIF or JSON",
    Kind.HDF5: "write its crystals as Parquet, CIF or extended XYZ",
    Kind.WEB_PAGE: "the download gave a page of text instead of the file; get the file itself",
    Kind.LFS_POINTER: "get the file itself with 'git lfs pull'",
    Kind.EMPTY: "write or get it again",
}

DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What unpacking raises where the packed bytes are cut off or damaged."""

_SUFFIXES = {
    ".parquet": Kind.PARQUET,
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".cif": Kind.CIF,
    ".mcif": Kind.CIF,
    ".json": Kind.JSON,
    ".jsonl": Kind.JSON_LINES,
    ".ndjson": Kind.JSON_LINES,
    ".xyz": Kind.FRAMES,
    ".extxyz": Kind.FRAMES,
}
_PACKED = (".gz", ".bz2", ".xz", ".zst")


@dataclass(frozen=True)
class Content:
    """One file, unpacked: its name without the suffix of compression, what it is, and its bytes.

    path: where the bytes lie as they are, for libraries that want a file; None in an archive or where they were packed.
    """

    name: str
    kind: Kind
    data: bytes
    path: Path | None = None

    @property
    def stem(self) -> str:
        """The name without its suffix: what its crystals are called by."""
        return stem(self.name)

    @property
    def text(self) -> str:
        """The bytes as text, whatever their encoding, lines ended by line feeds."""
        return decoded(self.data)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The unpacked bytes of a file, and the file below them, whose position measures progress. Raises InputError."""
    try:
        file: IO[bytes] = path.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the path.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the file and its permissions.") from error
    with file:
        # by content: a downloaded file may bear any name
        magic = file.read(6)
        file.seek(0)
        unpacker = next((opener for start, opener in _UNPACKERS if magic.startswith(start)), None)
        yield (file if unpacker is None else unpacker(file)), file


def kind_of_file(path: Path) -> Kind:
    """What a file holds, told from its beginning. Raises InputError for one that cannot be read or unpacked."""
    with opened(path) as (stream, _):
        try:
            return kind_of(bare_name(path.name), stream.read(_HEAD))
        except DAMAGE as error:
            reason = str(error).strip().rstrip(".") or type(error).__name__
            raise InputError(f"{path} cannot be unpacked ({reason}); it is cut off or damaged, so get it again.") from error


def read_content(path: Path) -> Content:
    """A file unpacked. Raises InputError for one that cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the file and its permissions.") from error
    return content(path.name, data, str(path), path)


def content(name: str, data: bytes, source: str, path: Path | None = None) -> Content:
    """The content of bytes that bear a name; `source` says in errors where they come from. Raises InputError for damage."""
    try:
        bare = unpacked(data)
    except DAMAGE as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise InputError(f"{source} cannot be unpacked ({reason}); it is cut off or damaged, so get it again.") from error
    if bare is not data:
        path = None
    name = bare_name(name)
    return Content(name, kind_of(name, bare), bare, path)


def unpacked(data: bytes) -> bytes:
    """The bytes within gzip, bzip2, xz or Zstandard, told by their first bytes; the same where there is no such packing."""
    for magic, opened in _UNPACKERS:
        if data.startswith(magic):
            with opened(io.BytesIO(data)) as stream:
                bare = stream.read(LARGEST + 1)
            if len(bare) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST >> 30} GiB")
            return unpacked(bare)
    return data


def _zstandard(stream: IO[bytes]) -> IO[bytes]:
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd")  # type: ignore[no-any-return]


_UNPACKERS: tuple[tuple[bytes, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", lambda stream: gzip.GzipFile(fileobj=stream)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", _zstandard),
)


def kind_of(name: str, data: bytes) -> Kind:
    """What unpacked bytes are: by their content where it is plain, else by the name's suffix."""
    if not data.strip():
        return Kind.EMPTY
    by_bytes = _kind_of_bytes(name, data)
    return by_bytes if by_bytes is not None else _kind_of_text(name, decoded(data[:_HEAD]))


def _kind_of_bytes(name: str, data: bytes) -> Kind | None:
    if data.startswith(b"PAR1"):
        return Kind.PARQUET
    if data.startswith(b"PK\x03\x04"):
        if b"[Content_Types].xml" in data[:_HEAD] or name.lower().endswith((".xlsx", ".ods")):
            return Kind.SPREADSHEET
        return Kind.NUMPY if name.lower().endswith(".npz") else Kind.ZIP
    if data.startswith(b"\x93NUMPY"):
        return Kind.NUMPY
    if data.startswith(b"\x89HDF\r\n"):
        return Kind.HDF5
    if data[257:262] == b"ustar":
        return Kind.TAR
    # pickles of protocol 2 and later begin so and end with a point; a text does not
    return Kind.PICKLE if data[:1] == b"\x80" and data[1:2] <= b"\x05" and data.rstrip()[-1:] == b"." else None


def _kind_of_text(name: str, head: str) -> Kind:
    start = head.lstrip()
    if start.startswith("version https://git-lfs"):
        return Kind.LFS_POINTER
    if re.match(r"(?i)<(!doctype html|html|\?xml[^>]*>\s*<!doctype html)", start):
        return Kind.WEB_PAGE
    suffix = _SUFFIXES.get(Path(name).suffix.lower())
    if suffix is Kind.CSV:  # its cells may hold whole CIFs
        return suffix
    if start[:1] in ("{", "["):
        return Kind.JSON_LINES if suffix is Kind.JSON_LINES or _is_json_lines(start) else Kind.JSON
    lines = head.splitlines()
    if _is_header(lines[0]):
        return Kind.CSV
    if re.search(r"(?im)^data_\S*\s", head) and re.search(r"(?im)^\s*(loop_|_[a-z])", head):
        return Kind.CIF
    if is_poscar(lines):
        return Kind.POSCAR
    if suffix is not None:
        return suffix
    if re.match(r"\s*\d+\s*$", lines[0]) and "attice=" in "".join(lines[1:2]):
        return Kind.FRAMES
    return Kind.OTHER


def _is_header(line: str) -> bool:
    """Whether a line names the columns of a table of crystals."""
    columns = re.split(r"[,;\t]", line.lower())
    return len(columns) > 1 and bool({"cif", "structure"} & {name.strip(" \"'") for name in columns})


def _is_json_lines(start: str) -> bool:
    """Whether the first line is a whole JSON value, and another begins on the next."""
    first, _, rest = start.partition("\n")
    if rest.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


def is_poscar(lines: list[str]) -> bool:
    """Whether lines are shaped like a POSCAR: a comment, one or three scales, three vectors, symbols or counts."""

    def numbers(line: str) -> int:
        parts = line.split()
        try:
            return len([float(part) for part in parts])
        except ValueError:
            return 0

    if len(lines) < 8 or numbers(lines[1]) not in (1, 3):
        return False
    return all(numbers(line) == 3 for line in lines[2:5]) and bool(re.fullmatch(r"[\s\d]+|\s*[A-Za-z].*", lines[5]))


def decoded(data: bytes) -> str:
    """Text of bytes: UTF-16 and UTF-8 by their marks, else UTF-8, else Latin-1; any end of line becomes a line feed."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # a head may end within a character
            cut = error.start >= len(data) - 3 and error.reason == "unexpected end of data"
            text = data.decode("utf-8-sig", errors="ignore") if cut else data.decode("latin-1").removeprefix("ï»¿")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def bare_name(name: str) -> str:
    """A file's name without the suffix of its compression."""
    suffix = next((s for s in _PACKED if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def stem(name: str) -> str:
    """A file's name without the suffixes that say what it is: `NaCl.cif.gz` → `NaCl`, `POSCAR_0.5` as it is."""
    path = Path(bare_name(name))
    return path.stem if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]*", path.suffix) else path.name
