"""Bring an address to a file that may already hold its beginning.

The bytes lie in `NAME.part`, with what the server said of them in
`NAME.part.json`, until the whole is there and verified. A download that was cut
goes on where it stopped if the server still has the same file.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from crystalformer_rl import __version__
from crystalformer_rl.errors import InputError

_BLOCK = 1 << 16
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_UNSATISFIED = re.compile(r"bytes \*/(\d+)")

Advance = Callable[[int, int | None], Any]
"""Called with the bytes at hand and the total, where the server says it."""


@dataclass(frozen=True)
class Patience:
    """How long to try: attempts in a row that bring nothing new, and the pauses between them."""

    attempts: int = 5
    first_pause: float = 1.0  # s; doubles with each attempt
    longest_pause: float = 30.0  # s
    timeout: float = 30.0  # s without a byte
    sleep: Callable[[float], None] = time.sleep

    def pause(self, failures: int, asked: float | None) -> None:
        """Wait; a server may ask for longer, up to the longest pause."""
        self.sleep(min(self.longest_pause, max(asked or 0.0, self.first_pause * 2 ** (failures - 1))))


DEFAULT_PATIENCE = Patience()


class TransientError(Exception):
    """A failure that may pass; `retry_after` is what the server asked to wait, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def download(
    url: str,
    part: Path,
    *,
    size: int | None = None,
    verified_later: bool = False,
    advance: Advance = lambda done, total: None,
    patience: Patience = DEFAULT_PATIENCE,
) -> bool:
    """Bring the whole of `url` to `part`; True if some of it was there before.

    Args:
        url: an http or https address; redirects may lead to https, and from http to http.
        part: file to fill; what it holds from an earlier try is used.
        size: bytes it must have, where known.
        verified_later: the caller knows the digest, so that a beginning may be trusted
            although the server offers no means to tell whether the file is still the same.
        advance: told of progress.
        patience: retries and pauses.

    Raises InputError for what a retry does not mend, and after the last one.
    """
    resumed = length(part) > 0
    failures, furthest = 0, length(part)
    while True:
        try:
            _transfer(url, part, size, verified_later, advance, patience.timeout)
            return resumed
        except TransientError as error:
            failures = 1 if length(part) > furthest else failures + 1
            furthest = max(furthest, length(part))
            if failures >= patience.attempts:
                raise InputError(_gave_up(url, error, part)) from error
            patience.pause(failures, error.retry_after)
            resumed = length(part) > 0


def length(path: Path) -> int:
    """Bytes in a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def discard(part: Path) -> None:
    """Forget what an earlier try left."""
    if part.exists():
        with open(part, "r+b") as stream:  # emptied, not removed: its owner holds a lock on it
            stream.truncate(0)
    _state_path(part).unlink(missing_ok=True)


def _gave_up(url: str, error: TransientError, part: Path) -> str:
    kept = f" {length(part)} bytes are kept in {part}." if length(part) else ""
    return f"{url} could not be fetched ({error}); check the network and run the command again, it goes on from there.{kept}"


def _transfer(url: str, part: Path, size: int | None, verified_later: bool, advance: Advance, timeout: float) -> None:
    """One attempt. Raises TransientError where another may succeed."""
    state = _read_state(part)
    validator = state.get("validator")
    if state.get("url") != url or not (validator or verified_later) or (size is not None and length(part) > size):
        discard(part)
    have = length(part)
    if verified_later and size is not None and have == size:
        return
    headers = {"User-Agent": f"crystalformer-rl/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            _refused(url, part, error, have)
        return
    except http.client.InvalidURL as error:
        raise InputError(
            f"'{url}' is not an address that HTTP allows; write spaces as %20 and leave control characters out."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _network_error(url, error) from error
    with response:
        start, total = _extent(response, have)
        if size is not None and total is not None and total != size:
            raise InputError(f"{url} has {total} bytes where {size} are expected; it has changed, or the address is wrong.")
        _check_room(part, (total or size or 0) - start)
        _write_state(part, {"url": url, "validator": _validator(response)})
        _receive(response, part, start, size if total is None else total, advance, url)


def _extent(response: Any, have: int) -> tuple[int, int | None]:
    """Where the body begins in the file, and the file's size where the server tells it."""
    if response.status == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if not match or int(match[1]) != have:
            raise TransientError("the server sent another part than was asked for")
        return have, None if match[2] == "*" else int(match[2])
    told = response.headers.get("Content-Length")
    return 0, int(told) if told and told.isdigit() else None


def _receive(response: Any, part: Path, start: int, total: int | None, advance: Advance, url: str) -> None:
    done = start
    with open(part, "r+b" if part.exists() else "w+b") as stream:
        stream.truncate(start)
        stream.seek(start)
        advance(done, total)
        while True:
            try:
                block = response.read(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _network_error(url, error) from error
            if not block:
                break
            _write(stream, block, part)
            done += len(block)
            advance(done, total)
    if total is not None and done < total:
        raise TransientError(f"the connection was cut after {done} of {total} bytes")


def _write(stream: IO[bytes], block: bytes, part: Path) -> None:
    try:
        stream.write(block)
        stream.flush()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(
                f"The disk of {part.parent} is full ({error.strerror}); make room and fetch again, it goes on from there."
            ) from error
        raise InputError(f"{part} cannot be written ({error.strerror}); choose another place.") from error


def _check_room(part: Path, wanted: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if wanted > free:
        raise InputError(f"The disk of {part.parent} has {free} bytes free where {wanted} are needed; make room first.")


def _refused(url: str, part: Path, error: urllib.error.HTTPError, have: int) -> None:
    """An answer other than the file. Returns where it means that all is there already."""
    if error.code == 416 and have:
        match = _UNSATISFIED.fullmatch(error.headers.get("Content-Range", "").strip())
        if match and int(match[1]) == have:
            return
        discard(part)
        raise TransientError("what was fetched before does not fit the file") from error
    if error.code in _TRANSIENT:
        asked = error.headers.get("Retry-After", "")
        raise TransientError(f"status {error.code}: {error.reason}", float(asked) if asked.isdigit() else None) from error
    remedy = {
        401: "it wants a login; fetch it by hand and give its path",
        403: "it wants permission; fetch it by hand and give its path",
        404: "nothing is there; check the address",
        410: "it was removed; look for another address",
    }.get(error.code, "check the address")
    raise InputError(f"{url} answered {error.code} ({error.reason}): {remedy}.") from error


def _network_error(url: str, error: Exception) -> Exception:
    """A failure below HTTP: almost all of them may pass."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return InputError(
            f"{url}: the server's certificate is not valid ({reason.verify_message}); check address and clock."
        )
    return TransientError(str(reason) or type(reason).__name__)


def _validator(response: Any) -> str | None:
    """What tells later whether the file is the same: a strong ETag, else the time of its last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something weaker, nor out of http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after != "https" and not before == after == "http":
            raise InputError(f"{req.full_url} leads to {newurl}, which is not safe to follow; give another address.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)


def _state_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_state(part: Path) -> dict[str, Any]:
    try:
        state = json.loads(_state_path(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or cut short by a kill: then the beginning is not trusted
        return {}
    return state if isinstance(state, dict) else {}


def _write_state(part: Path, state: dict[str, Any]) -> None:
    _state_path(part).write_text(json.dumps(state), encoding="utf-8")
