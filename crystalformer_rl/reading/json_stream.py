"""Long lists in JSON files, decoded member by member: a hull of several 100,000 entries need not lie in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from crystalformer_rl.errors import InputError
from crystalformer_rl.reading.files import DAMAGE, Kind, kind_of_file, opened

_CHUNK = 1 << 20  # characters
_HEAD = 1 << 16


def may_be_list(path: str | Path) -> bool:
    """Whether a JSON file begins with a list, or a dictionary with a list under `entries`, or holds a value a line."""
    with opened(Path(path)) as (stream, _):
        try:
            head = stream.read(_HEAD).decode("utf-8", errors="replace").lstrip()
        except DAMAGE as error:
            raise _unreadable(Path(path), error) from error
    return head.startswith("[") or (head.startswith("{") and re.search(r'"entries"\s*:\s*\[', head) is not None)


def _unreadable(path: Path, error: BaseException) -> InputError:
    reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
    return InputError(
        f"{path} cannot be read ({reason}); give whole JSON of computed entries, plain or packed by gzip, bzip2 or xz."
    )


def members(path: Path, advance: Callable[[int], object] | None) -> Iterator[Any]:
    """The members of the list that a JSON file is, or that it has under `entries`, or its lines; plain or packed.

    `advance` is called with the number of bytes of the file just read. Raises InputError for what is not a whole JSON.
    """
    with opened(path) as (unpacked, file):
        text = _JsonText(unpacked, file, advance)
        try:
            yield from _values(text) if kind_of_file(path) is Kind.JSON_LINES else _members(text)
        except (*DAMAGE, RecursionError) as error:
            raise _unreadable(path, error) from error


def _values(text: _JsonText) -> Iterator[Any]:
    while text.peek():
        yield text.value()


def _members(text: _JsonText) -> Iterator[Any]:
    if text.peek() == "[":
        yield from text.array()
    elif text.peek() == "{":
        text.take("{")
        while text.peek() != "}":
            key = text.value()
            text.take(":")
            if key == "entries" and text.peek() == "[":
                yield from text.array()
            else:
                text.value()
            if text.peek() != "}":
                text.take(",")
        text.take("}")
    else:
        text.value()  # raises for what is not JSON; a lone number or string has no members
    if text.peek():
        raise ValueError("more follows after the end of the JSON")


class _JsonText:
    """JSON that is decoded value by value while it is read."""

    def __init__(self, unpacked: IO[bytes], file: IO[bytes], advance: Callable[[int], object] | None) -> None:
        self._unpacked, self._file, self._advance = unpacked, file, advance
        self._decoder = json.JSONDecoder()
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._ended, self._told = "", 0, False, 0

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._read_on()

    def take(self, character: str) -> None:
        """Step over the character that must come next. Raises ValueError where another does."""
        if self.peek() != character:
            raise ValueError(f"'{character}' expected, {repr(self.peek()) if self.peek() else 'the end'} found")
        self._at += 1

    def array(self) -> Iterator[Any]:
        """The members of the array that comes next."""
        self.take("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self.take(",")
        self.take("]")

    def value(self) -> Any:
        """The value that comes next. Raises ValueError where there is none."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # cut off by the end of what was read, or wrong in itself?
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self._text) - 16
                if self._ended or not cut:
                    raise
            else:
                # a number that touches the end may have further digits
                if end < len(self._text) or self._ended:
                    self._at = end
                    return found
            self._read_on()

    def _read_on(self) -> None:
        kept = self._text[self._at :]
        block = self._unpacked.read(max(_CHUNK, len(kept)))  # doubling: a long value is not decoded too often
        self._ended = not block
        self._text, self._at = kept + self._utf8.decode(block, final=self._ended), 0
        if self._advance is not None:
            position = self._file.tell()
            self._advance(position - self._told)
            self._told = position
