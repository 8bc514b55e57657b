"""Fetch a resource: whole, verified, and under its name only then."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from crystalformer_rl.errors import InputError
from crystalformer_rl.resources.download import DEFAULT_PATIENCE, Advance, Patience, discard, download, length
from crystalformer_rl.resources.lock import DEFAULT_LOCK, locked_sha256, record
from crystalformer_rl.resources.registry import Digest, Resource
from crystalformer_rl.tables.parquet import atomic_path
from crystalformer_rl.tables.provenance import sha256


@dataclass(frozen=True)
class Fetched:
    """What lies at `path` now. `fresh` is False where it had been there; `verified` says by what."""

    resource: Resource
    path: Path
    size: int
    sha256: str
    verified: str
    fresh: bool


def fetch(
    resource: Resource,
    out: str | Path,
    *,
    sha256_hex: str | None = None,
    member: str | None = None,
    lock: str | Path = DEFAULT_LOCK,
    advance: Advance = lambda done, total: None,
    patience: Patience = DEFAULT_PATIENCE,
) -> Fetched:
    """Bring a resource to `out`.

    Args:
        resource: from `registry.find`.
        out: file to write. Of an archive the resource's member is taken out, unless `out` ends in .zip.
        sha256_hex: digest that the download must have besides the registry's.
        member: file to take out of the archive, instead of the registry's choice.
        lock: where the digest of a first download is recorded if nobody published one.
        advance: told of progress.
        patience: retries and pauses.

    Raises InputError in one sentence; then nothing new lies at `out`.
    """
    out, lock = Path(out), Path(lock)
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file to write to.")
    wanted = _wanted(resource, sha256_hex)
    recorded = None
    if not wanted and resource.scheme in ("http", "https"):
        recorded = locked_sha256(lock, resource.url)
        wanted = [Digest("sha256", recorded)] if recorded else []
    member = member or resource.member
    unpack = member is not None and out.suffix != ".zip"
    if not unpack and wanted and out.is_file() and all(Digest.of(out, digest.kind) == digest for digest in wanted):
        return _report(resource, out, _words(wanted, recorded), fresh=False)
    part = out.with_name(out.name + (".zip.part" if unpack else ".part"))
    with _held(part):
        _bring(resource, part, wanted, recorded, lock, advance, patience)
        if resource.scheme in ("http", "https") and not wanted:
            record(lock, resource.url, sha256(part), length(part))
        if unpack:
            assert member is not None
            take_member(part, member, out)
        else:
            os.replace(part, out)
        discard(part)
        part.unlink(missing_ok=True)
    return _report(resource, out, _words(wanted, recorded), fresh=True)


def take_member(archive: Path, member: str, out: Path) -> None:
    """Write one file of a zip archive to `out`; names in the archive never become paths here."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [info.filename for info in opened.infolist() if not info.is_dir()]
            if member not in names:
                raise InputError(f"The archive has no file '{member}'; name one of {', '.join(sorted(names)[:20])}.")
            free = shutil.disk_usage(out.parent).free
            if opened.getinfo(member).file_size > free:
                raise InputError(f"The disk of {out.parent} has {free} bytes free, too few for '{member}'; make room first.")
            with atomic_path(out) as temporary, opened.open(member) as source, open(temporary, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)  # zipfile compares length and CRC at the end
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"The archive is not a readable zip file ({error}); fetch it again, or check the address."
        ) from error


def _bring(
    resource: Resource,
    part: Path,
    wanted: list[Digest],
    recorded: str | None,
    lock: Path,
    advance: Advance,
    patience: Patience,
) -> None:
    """Fill `part` and verify it; a resumed download that turns out wrong is made once more from its beginning."""
    if resource.scheme not in ("http", "https"):
        _copy(resource, part, advance)
        _verify(resource, part, wanted, recorded, lock)
        return
    resumed = download(
        resource.url, part, size=resource.size, verified_later=bool(wanted), advance=advance, patience=patience
    )
    try:
        _verify(resource, part, wanted, recorded, lock)
    except InputError:
        if not resumed:
            raise
        download(resource.url, part, size=resource.size, advance=advance, patience=patience)
        _verify(resource, part, wanted, recorded, lock)


def _wanted(resource: Resource, sha256_hex: str | None) -> list[Digest]:
    wanted = [resource.digest] if resource.digest else []
    if sha256_hex:
        try:
            given = Digest.parse(sha256_hex)
        except ValueError as error:
            raise InputError(f"'{sha256_hex}' is not a SHA-256 digest; give its 64 hexadecimal digits.") from error
        wanted += [given] if given not in wanted else []
    return wanted


def _verify(resource: Resource, part: Path, wanted: list[Digest], recorded: str | None, lock: Path) -> None:
    """Raise InputError, and empty `part`, where its content is not what it must be."""
    for digest in wanted:
        found = Digest.of(part, digest.kind)
        if found == digest:
            continue
        size = length(part)
        discard(part)
        if recorded:
            raise InputError(
                f"{resource.url} has changed: {lock} recorded {digest}, now it is {found}; if that is right, "
                "delete the entry in the lock file and fetch again."
            )
        raise InputError(
            f"{resource.url} has the wrong content: expected {digest}, found {found} ({size} bytes); "
            "fetch again, and if it stays so do not use it."
        )
    if resource.size is not None and length(part) != resource.size:
        size = length(part)
        discard(part)
        raise InputError(f"{resource.url} has {size} bytes where {resource.size} are expected; check the address.")


def _copy(resource: Resource, part: Path, advance: Advance) -> None:
    """The content of a file on this machine."""
    if resource.scheme == "embedded":
        source, remedy = resource.embedded_path, "embedded files come with the repository, so run from a clone of it"
    else:
        address = urlsplit(resource.url)
        if address.netloc not in ("", "localhost"):
            raise InputError(f"{resource.url} names another machine; write file:///path for a file of this one.")
        source, remedy = Path(url2pathname(address.path)), "check the path"
    if not source.is_file():
        raise InputError(f"{source} does not exist; {remedy}.")
    discard(part)
    try:
        with open(source, "rb") as stream, open(part, "r+b") as target:
            shutil.copyfileobj(stream, target, 1 << 20)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise InputError(f"{source} could not be copied to {part} ({error.strerror}); "
                         f"{'make room' if full else 'check permissions'} and try again.") from error  # fmt: skip
    advance(length(part), length(part))


@contextlib.contextmanager
def _held(part: Path) -> Iterator[None]:
    """Hold `part` against other processes that fetch to the same place."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        stream = open(part, "ab")  # noqa: SIM115 (held below)
    except OSError as error:
        raise InputError(f"{part} cannot be written ({error.strerror}); choose another place.") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{part} is being written by another fetch; wait for it, or choose another place.") from error
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            if part.exists() and length(part) == 0:
                discard(part)
                part.unlink(missing_ok=True)


def _words(wanted: list[Digest], recorded: str | None) -> str:
    if recorded:
        return "lock file"
    return ", ".join(digest.kind for digest in wanted) or "nothing: first download"


def _report(resource: Resource, out: Path, verified: str, fresh: bool) -> Fetched:
    return Fetched(resource, out, length(out), sha256(out), verified, fresh)
