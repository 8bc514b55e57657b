"""Checkpoints as they arrive: in every protocol of pickle, damaged, mistaken for others, and hostile."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from policy_examples import small_policy

from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.checkpoint import load_policy, read_safetensors, save_policy
from crystalformer_rl.policy.published import read_arrays
from crystalformer_rl.properties.models import PropertyModels
from crystalformer_rl.resources.mistaken import mistaken_for
from crystalformer_rl.resources.stability_file import read_header

PROTOCOLS = (2, 3, 4, 5)


def pickled(path: Path, content: Any, protocol: int | None = None) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


# --- every protocol ---------------------------------------------------------------


def arrays() -> dict[str, np.ndarray]:
    """Arrays of every layout and type that a checkpoint may hold."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(3, 4))
    return {
        "double": table,
        "single": table.astype(np.float32),
        "half": table.astype(np.float16),
        "columns first": np.asfortranarray(table),
        "turned": np.ascontiguousarray(rng.normal(size=(2, 3, 4))).transpose(2, 0, 1),
        "strided": table[:, ::2],
        "whole": np.arange(6).reshape(2, 3),
        "unsigned": np.arange(3, dtype=np.uint8),
        "truth": np.array([True, False]),
        "other end first": table.astype(">f8"),
        "no axes": np.array(2.5),
        "empty": np.zeros((0, 2)),
        "number": np.float32(1.5),
        "read only": np.frombuffer(b"\x01\x02\x03\x04", np.uint8),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("jax", [False, True], ids=["numpy", "jax"])
def test_arrays_load_in_every_protocol(tmp_path: Path, protocol: int, jax: bool) -> None:
    given: dict[str, Any] = arrays()
    if jax:
        given = {name: jnp.asarray(value.astype(value.dtype.newbyteorder("="))) for name, value in given.items()}
    optimizer = optax.adam(1e-3).init({"w": jnp.ones((2, 2))})
    content = {"params": {"module": given}, "opt_state": optimizer, "epoch": 3, "seen": bytearray(b"\xff\x00"), "none": b""}
    found = read_arrays(pickled(tmp_path / "epoch_000001.pkl", content, protocol))["module"]
    assert found.keys() == given.keys()
    for name, value in given.items():
        assert found[name].shape == value.shape, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("old", [False, True], ids=["NumPy 2", "NumPy 1"])
def test_names_of_both_numpy_versions_load(tmp_path: Path, protocol: int, old: bool) -> None:
    path = tmp_path / "epoch_000001.pkl"
    content = {"params": {"m": {"w": np.arange(3.0), "n": np.float64(2)}}}

    class Older(pickle._Pickler):
        def save_global(self, obj: Any, name: str | None = None) -> None:
            module = getattr(obj, "__module__", None)
            if old and isinstance(module, str) and module.startswith("numpy._core"):
                short, own = module.replace("numpy._core", "numpy.core"), name or obj.__name__
                if self.proto >= 4:
                    self.save(short)
                    self.save(own)
                    self.write(pickle.STACK_GLOBAL)
                else:
                    self.write(pickle.GLOBAL + f"{short}\n{own}\n".encode())
                self.memoize(obj)
                return
            super().save_global(obj, name)

        dispatch = pickle._Pickler.dispatch.copy()

    Older.dispatch[type(read_arrays)] = Older.save_global
    stream = io.BytesIO()
    Older(stream, protocol).dump(content)
    path.write_bytes(stream.getvalue())
    assert (b"numpy.core" if old else b"numpy._core") in stream.getvalue()
    found = read_arrays(path)["m"]
    np.testing.assert_array_equal(found["w"], np.arange(3.0))
    assert found["n"] == 2.0


# --- hostile ------------------------------------------------------------------------


class Calls:
    """Unpickles to a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, r"(posix|nt)\.system"),
        (eval, "eval"),
        (getattr, "getattr"),
        (np.load, r"numpy.*load"),
        (open, r"io\.open|open"),
    ],
)
def test_a_name_that_no_checkpoint_needs_is_refused(tmp_path: Path, protocol: int, function: Any, name: str) -> None:
    path = pickled(tmp_path / "epoch_000001.pkl", {"params": {"m": {"w": Calls(function, "x")}}}, protocol)
    with pytest.raises(InputError, match=rf"is refused: it holds the name .*({name}), .*do not trust it"):
        read_arrays(path)


@pytest.mark.parametrize("hostile", [np.array([print, "x"], dtype=object), np.array([Calls(os.system, "x")], dtype=object)])
def test_objects_in_arrays_are_never_made(tmp_path: Path, hostile: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"epoch_000001\.pkl (is refused|is no CrystalFormer)"):
        read_arrays(pickled(tmp_path / "epoch_000001.pkl", {"params": {"m": {"w": hostile}}}))


@pytest.mark.parametrize(
    "content",
    [
        Calls(bytes, 1 << 40),
        Calls(bytearray, 1 << 40),
        Calls(np._core.numeric._frombuffer, b"12345678", np.dtype("f8"), (1 << 40,), "C"),
        Calls(np._core.numeric._frombuffer, [1, 2], np.dtype("f8"), (2,), "C"),
        Calls(np._core.numeric._frombuffer, "text", np.dtype("f8"), (2,), "C"),
        Calls(np._core.multiarray.scalar, np.dtype("f8"), b"1"),
    ],
)
def test_names_that_are_admitted_make_nothing_but_arrays(tmp_path: Path, content: Calls) -> None:
    with pytest.raises(InputError, match=r"epoch_000001\.pkl is (no CrystalFormer checkpoint|cut off or damaged)"):
        read_arrays(pickled(tmp_path / "epoch_000001.pkl", {"params": {"m": {"w": content}}}))


def test_a_function_that_is_admitted_cannot_be_changed(tmp_path: Path) -> None:
    # _codecs.encode, to which an attribute is given
    path = tmp_path / "epoch_000001.pkl"
    path.write_bytes(b"\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.")
    with pytest.raises(InputError, match="a state for what has none"):
        read_arrays(path)


# --- damaged, or something else ------------------------------------------------------

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Not found</title></head></html>"


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", content)
    return stream.getvalue()


OTHERS = {
    "nothing": (b"", r"is empty; get it again"),
    "git lfs": (LFS, r"is a pointer of Git LFS .*; run `git lfs pull`"),
    "web page": (PAGE, r"is a web page, .*; get the file again"),
    "page with a mark": (b"\xef\xbb\xbf" + PAGE, r"is a web page"),
    "zip": (zipped(b"x"), r"is a zip archive; unpack it"),
    "gzip": (gzip.compress(b"x" * 99), r"is compressed with gzip; unpack it"),
    "words": (
        b"Entry not found",
        r"(is cut off or damaged|is not a whole safetensors file|is not a readable safetensors file).*again",
    ),
}


@pytest.mark.parametrize("ending", [".pkl", ".safetensors"])
@pytest.mark.parametrize(("content", "words"), OTHERS.values(), ids=OTHERS)
def test_what_is_something_else_is_named_and_not_distrusted(tmp_path: Path, content: bytes, words: str, ending: str) -> None:
    path = tmp_path / f"epoch_000001{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"epoch_000001\{ending} {words}") as caught:
        load_policy(path)
    assert "trust" not in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("read", [read_header, PropertyModels.load], ids=["stability", "properties"])
def test_models_are_told_apart_likewise(tmp_path: Path, read: Any) -> None:
    for content, words in OTHERS.values():
        path = tmp_path / "models.safetensors"
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            read(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_off_anywhere_is_called_damaged(tmp_path: Path, protocol: int) -> None:
    whole = pickle.dumps({"params": {"m": {"w": np.arange(40.0)}}}, protocol)
    path = tmp_path / "epoch_000001.pkl"
    for length in range(2, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"is cut off or damaged .*get it again"):
            read_arrays(path)


def test_policies_under_the_wrong_ending_are_told(tmp_path: Path) -> None:
    save_policy(tmp_path / "p.safetensors", small_policy(), {})
    (tmp_path / "p.safetensors").rename(tmp_path / "p.pkl")
    with pytest.raises(InputError, match=r"is a safetensors file; give it the ending \.safetensors"):
        load_policy(tmp_path / "p.pkl")
    path = pickled(tmp_path / "epoch.safetensors", {"params": {}})
    with pytest.raises(InputError, match=r"is a pickle; give a published checkpoint the ending \.pkl"):
        load_policy(path)


def test_a_header_whose_length_looks_like_a_pickle_is_none(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x280)
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert mistaken_for(path, "safetensors") is None
    assert read_safetensors(path)[0]["w"].shape == (1,)


def test_a_folder_and_an_absent_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "run.pkl").mkdir()
    with pytest.raises(InputError, match=r"is a folder; give the epoch"):
        read_arrays(tmp_path / "run.pkl")
    with pytest.raises(InputError, match="does not exist"):
        read_arrays(tmp_path / "absent.pkl")
