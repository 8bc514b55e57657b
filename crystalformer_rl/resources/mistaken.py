"""What a file is that was given for another: the ways in which a download goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_LEADS = (
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS and not the file itself; run `git lfs pull` where it lies, or get it again",
    ),
    (b"PK\x03\x04", "is a zip archive; unpack it and give the file inside"),
    (b"PK\x05\x06", "is an empty zip archive; get it again"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it (`gunzip`) and give the file inside"),
    (b"BZh", "is compressed with bzip2; unpack it (`bunzip2`) and give the file inside"),
    (b"\xfd7zXZ\x00", "is compressed with xz; unpack it (`unxz`) and give the file inside"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it (`unzstd`) and give the file inside"),
)
_WEB_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<!--", b"<head")
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_MOST = 1024  # bytes looked at; a web page may begin with blanks and a comment


def mistaken_for(path: str | Path, wanted: Literal["pickle", "safetensors"]) -> str | None:
    """What a file is instead of what is wanted, and what to do: the rest of a sentence that begins with its name.

    None where its first bytes show nothing of the kind. Raises OSError for a file that cannot be read.
    """
    with Path(path).open("rb") as stream:
        start = stream.read(_MOST)
    if not start:
        return "is empty; get it again"
    for lead, words in _LEADS:
        if start.startswith(lead):
            return words
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_WEB_PAGES):
        return "is a web page, as a failed download leaves it; get the file again by its own address"
    # a length in eight bytes, and JSON; a length may begin with the bytes of a pickle
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        return None if wanted == "safetensors" else "is a safetensors file; give it the ending .safetensors"
    if start.startswith(_PICKLES):
        return (
            None
            if wanted == "pickle"
            else "is a pickle; give a published checkpoint the ending .pkl, and get any other file again"
        )
    return None
