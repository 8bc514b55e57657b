"""Arrays out of a pickle, without running what a pickle may hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crystalformer_rl.errors import InputError
from crystalformer_rl.resources.mistaken import mistaken_for

_NUMERIC_KINDS = frozenset("fiub")
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    OverflowError,
    RecursionError,
    MemoryError,
)
"""What the unpickler raises for bytes that are no whole pickle."""


class _ForbiddenNameError(Exception):
    """A name that no checkpoint needs: what it stands for would run."""


class _ForeignError(Exception):
    """Something harmless that no checkpoint holds."""


class ArrayInPickle:
    """Stands for numpy.ndarray while unpickling: takes shape, type and bytes, nothing else. `value` is the array."""

    value: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _from_bytes(data, dtype).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stands for numpy.dtype while unpickling; plain numbers only."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.dtype = np.dtype(name) if isinstance(name, str) else np.dtype("V1")
        if self.dtype.kind not in _NUMERIC_KINDS:
            raise _ForeignError(f"an array of type {name!r}, which is not of plain numbers")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">", "|", "="):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Ignored:
    """Stands for the optimizer's state, which is not read."""

    def __new__(cls, *_: Any, **__: Any) -> _Ignored:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


def _from_bytes(data: Any, dtype: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _ForeignError("an array that is not a block of plain numbers")
    return np.frombuffer(data, dtype.dtype)


class _Builder:
    """A function that a pickle may call, and nothing else: an attribute could be set on a plain one."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _ForeignError("a state for what has none")


def _array(value: np.ndarray) -> ArrayInPickle:
    found = ArrayInPickle()
    found.value = value
    return found


@_Builder
def _reconstruct(*_: Any) -> ArrayInPickle:
    """Stands for what NumPy builds an empty array by, whose state follows."""
    return ArrayInPickle()


@_Builder
def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> ArrayInPickle:
    """Stands for what NumPy builds an array by in protocol 5; `axes` of one that is contiguous in no usual order."""
    flat = _from_bytes(data, dtype)
    if order == "K" and axes is not None:
        return _array(flat.reshape(shape).transpose(axes))
    return _array(flat.reshape(shape, order=order))


@_Builder
def _scalar(dtype: Any, data: Any) -> ArrayInPickle:
    """Stands for what NumPy builds a number by."""
    return _array(_from_bytes(data, dtype).reshape(()))


@_Builder
def _reconstruct_jax(
    build: Callable[..., ArrayInPickle], arguments: tuple[Any, ...], state: tuple[Any, ...] | None, _: Any
) -> ArrayInPickle:
    """Stands for what JAX builds an array by, from the parts of NumPy's pickle."""
    if build not in (_reconstruct, _frombuffer):
        raise _ForeignError("an array built in an unknown way")
    array = build(*arguments)
    if state is not None:
        array.__setstate__(state)
    return array


@_Builder
def _encode(text: Any, encoding: Any = None) -> bytes:
    """Stands for _codecs.encode, by which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _ForeignError("text in another place than bytes")
    return text.encode("latin1")


@_Builder
def _bytes(*arguments: Any) -> bytes:
    """Stands for bytes, by which protocol 2 writes none."""
    if arguments:
        raise _ForeignError("bytes that are made of something")
    return b""


@_Builder
def _bytearray(data: Any = b"", encoding: Any = "latin-1") -> bytearray:
    """Stands for bytearray, by which protocols below 5 write it."""
    if not isinstance(data, bytes | str) or encoding != "latin-1":
        raise _ForeignError("a bytearray that is made of something else than bytes")
    return bytearray(data.encode("latin-1") if isinstance(data, str) else data)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("jax._src.array", "_reconstruct_array"): _reconstruct_jax,
    ("numpy", "ndarray"): ArrayInPickle,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("optax._src.base", "EmptyState"): _Ignored,
    ("optax._src.transform", "ScaleByAdamState"): _Ignored,
    ("optax._src.transform", "ScaleByScheduleState"): _Ignored,
}
for _core in ("numpy._core", "numpy.core"):  # NumPy 2 and 1
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _frombuffer
for _builtins in ("builtins", "__builtin__"):  # protocol 2 writes the names of Python 2
    _ADMITTED[_builtins, "bytes"] = _bytes
    _ADMITTED[_builtins, "bytearray"] = _bytearray


class _ArraysOnly(pickle.Unpickler):
    """Admits the names that arrays and optimizer states need, and refuses every other by name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise _ForbiddenNameError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _ForeignError("references to something outside of it, as PyTorch writes them")


def read_pickle(path: str | Path) -> Any:
    """What a pickle of containers, numbers and arrays holds, each array as an `ArrayInPickle`.

    Raises InputError for a file that is not there, not a pickle, cut off or damaged, each in words of its own; and for one that
    holds a name which no checkpoint needs, the only one that is called not to be trusted.
    """
    path = Path(path)
    try:
        if instead := _instead(path):
            raise InputError(f"{path} {instead}.")
        with path.open("rb") as stream:
            return _ArraysOnly(stream).load()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path or fetch the checkpoint.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions, or get it again."
        ) from error
    except _ForbiddenNameError as error:
        raise InputError(
            f"{path} is refused: it holds the name {error}, which no published checkpoint needs; do not trust it."
        ) from error
    except _ForeignError as error:
        raise InputError(
            f"{path} is no CrystalFormer checkpoint: it holds {error}; give an epoch_NNNNNN.pkl of version 0.4."
        ) from error
    except _DAMAGED as error:
        raise InputError(f"{path} is cut off or damaged ({type(error).__name__}: {error}); get it again.") from error


def _instead(path: Path) -> str | None:
    """What a file is that cannot be a pickle."""
    if path.is_dir():
        return "is a folder; give the epoch_NNNNNN.pkl in it"
    return mistaken_for(path, "pickle")
