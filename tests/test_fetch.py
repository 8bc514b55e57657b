"""Fetching against a server on this machine that cuts, forgets, changes and refuses."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from crystalformer_rl.cli.fetch import command
from crystalformer_rl.errors import InputError
from crystalformer_rl.resources import download as download_module
from crystalformer_rl.resources.download import Patience
from crystalformer_rl.resources.fetching import fetch
from crystalformer_rl.resources.registry import KINDS, Digest, Resource, choose, find, load_registry
from crystalformer_rl.tables.provenance import sha256

CONTENT = bytes(range(256)) * 4096  # 1 MiB, so that a cut comes in the middle of a body
QUICK = Patience(attempts=4, sleep=lambda seconds: None, timeout=5)


@dataclass
class Origin:
    """A file on a server, the server's habits, and what it was asked."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    lengths: bool = True
    faults: list[tuple[str, int]] = field(
        default_factory=list
    )  # one each request: ("cut", bytes), ("shift", bytes), ("status", code)
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    origin: Origin

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        origin = self.origin
        origin.requests.append(dict(self.headers.items()))
        fault, amount = origin.faults.pop(0) if origin.faults else ("", 0)
        if fault == "status":
            self.send_response(amount)
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        if fault == "redirect" or self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/file" if fault == "redirect" else "/file")
            self.end_headers()
            return
        body = self._answer(origin, amount if fault == "shift" else 0)
        if body is None:
            return
        self.wfile.write(body[:amount] if fault == "cut" else body)
        self.close_connection = True

    def _answer(self, origin: Origin, shift: int) -> bytes | None:
        """Send status and headers; returns the body."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, origin.etag)
        start, size = (int(asked[1]) + shift if asked and same and origin.ranges else 0), len(origin.content)
        if start >= size > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return None
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if origin.etag:
            self.send_header("ETag", origin.etag)
        if origin.lengths:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        return origin.content[start:]


@pytest.fixture
def origin() -> Iterator[Origin]:
    origin = Origin()
    handler = type("Handler", (_Handler,), {"origin": origin})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    origin.url = f"http://127.0.0.1:{server.server_port}/file"
    yield origin
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # the lock file's default place


def _resource(origin: Origin, **more: object) -> Resource:
    return replace(find(origin.url), **more)  # type: ignore[arg-type]


def _sha(content: bytes = CONTENT) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_plain_download_is_verified_and_leaves_nothing_else(origin: Origin, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "file.bin"
    seen: list[tuple[int, int | None]] = []
    fetched = fetch(
        _resource(origin, digest=_sha()), out, patience=QUICK, advance=lambda done, total: seen.append((done, total))
    )
    assert out.read_bytes() == CONTENT
    assert (fetched.fresh, fetched.verified, fetched.sha256) == (True, "sha256", _sha().value)
    assert _left(out.parent) == ["file.bin"]
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not fetch(_resource(origin, digest=_sha()), out, patience=QUICK).fresh
    assert len(origin.requests) == 1, "a file that is there and right is not fetched again"


def test_git_blob_digest_is_what_git_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert Digest.of(path, "git-blob-sha1").value == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    if shutil.which("git"):
        path.write_bytes(CONTENT)
        said = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout.strip()
        assert Digest.of(path, "git-blob-sha1").value == said


def test_cut_connections_are_resumed(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [("cut", 300_000), ("cut", 200_000), ("status", 503)]
    out = tmp_path / "file.bin"
    fetch(_resource(origin, digest=_sha()), out, patience=QUICK)
    assert out.read_bytes() == CONTENT
    assert [request.get("Range") for request in origin.requests] == [None, "bytes=300000-", "bytes=500000-", "bytes=500000-"]
    assert origin.requests[1]["If-Range"] == '"one"'


def test_a_later_command_goes_on_where_the_first_gave_up(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [("cut", 300_000), *[("status", 503)] * 10]
    out = tmp_path / "file.bin"
    with pytest.raises(InputError, match=r"300000 bytes are kept in .*file\.bin\.part"):
        fetch(_resource(origin), out, patience=QUICK)
    assert not out.exists()
    assert _left(tmp_path) == ["file.bin.part", "file.bin.part.json"]
    origin.faults = []
    fetch(_resource(origin), out, patience=QUICK)
    assert out.read_bytes() == CONTENT
    assert origin.requests[-1]["Range"] == "bytes=300000-"


def test_killed_between_the_last_byte_and_the_name(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    (tmp_path / "file.bin.part.json").write_text(json.dumps({"url": origin.url, "validator": '"one"'}))
    fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(origin.requests) == 1


def test_killed_process_leaves_no_file_and_is_resumed(origin: Origin, tmp_path: Path, root: Path) -> None:
    origin.content = CONTENT * 64  # 64 MiB
    out = tmp_path / "file.bin"
    code = "import sys; from crystalformer_rl.cli import main; sys.argv[1:] = %r; main()" % [
        "fetch", origin.url, "--out", str(out)]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    part = tmp_path / "file.bin.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size > 100_000):
        pass
    process.kill()
    process.wait()
    assert out.exists() or part.stat().st_size > 100_000
    fetch(_resource(origin), out, patience=QUICK)
    assert sha256(out) == _sha(origin.content).value


def test_file_changed_between_the_parts_is_fetched_whole(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [("cut", 300_000), *[("status", 503)] * 3]
    with pytest.raises(InputError):
        fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    origin.content, origin.etag = CONTENT[::-1], '"two"'
    fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT[::-1]


def test_server_without_ranges_sends_all_again(origin: Origin, tmp_path: Path) -> None:
    origin.ranges = False
    origin.faults = [("cut", 300_000), ("cut", 400_000)]
    fetch(_resource(origin, digest=_sha()), tmp_path / "file.bin", patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(origin.requests) == 3


def test_without_validator_and_digest_nothing_is_joined(origin: Origin, tmp_path: Path) -> None:
    origin.etag = None
    origin.faults = [("cut", 300_000)]
    fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert "Range" not in origin.requests[1]


def test_a_weak_etag_joins_nothing(origin: Origin, tmp_path: Path) -> None:
    """Weakly equal files may differ in bytes."""
    origin.etag = 'W/"one"'
    origin.faults = [("cut", 300_000)]
    fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert "Range" not in origin.requests[1]


def test_another_part_than_was_asked_for_is_not_appended(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [("cut", 300_000), ("shift", 10)]
    fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(origin.requests) == 3


def test_beginning_of_another_file_is_noticed_by_the_digest_and_fetched_again(origin: Origin, tmp_path: Path) -> None:
    origin.etag = None
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "file.bin.part.json").write_text(json.dumps({"url": origin.url, "validator": None}))
    fetch(_resource(origin, digest=_sha()), tmp_path / "file.bin", patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert [request.get("Range") for request in origin.requests] == ["bytes=1000-", None]


def test_beginning_from_another_address_is_not_used(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / "file.bin.part.json").write_text(json.dumps({"url": "http://127.0.0.1/other", "validator": '"one"'}))
    fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_corrupt_body_names_both_digests_and_leaves_nothing(origin: Origin, tmp_path: Path) -> None:
    origin.content = b"y" + CONTENT[1:]
    with pytest.raises(InputError) as caught:
        fetch(_resource(origin, digest=_sha()), tmp_path / "file.bin", patience=QUICK)
    assert _sha().value in str(caught.value)
    assert _sha(origin.content).value in str(caught.value)
    assert _left(tmp_path) == []


def test_wrong_content_does_not_replace_what_is_there(origin: Origin, tmp_path: Path) -> None:
    out = tmp_path / "file.bin"
    out.write_bytes(b"mine")
    with pytest.raises(InputError):
        fetch(_resource(origin), out, sha256_hex="0" * 64, patience=QUICK)
    assert out.read_bytes() == b"mine"


def test_lock_file_records_the_first_download_and_refuses_another(origin: Origin, tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    first = fetch(_resource(origin), tmp_path / "a.bin", lock=lock, patience=QUICK)
    assert json.loads(lock.read_text()) == {origin.url: {"sha256": _sha().value, "size": len(CONTENT)}}
    assert first.verified == "nothing: first download"
    assert fetch(_resource(origin), tmp_path / "b.bin", lock=lock, patience=QUICK).verified == "lock file"
    origin.content = CONTENT[::-1]
    with pytest.raises(InputError, match=r"has changed: .*lock\.json recorded"):
        fetch(_resource(origin), tmp_path / "c.bin", lock=lock, patience=QUICK)
    assert _left(tmp_path) == ["a.bin", "b.bin", "lock.json"]


def test_lock_file_keeps_what_others_recorded(origin: Origin, tmp_path: Path) -> None:
    fetch(_resource(origin), tmp_path / "a.bin", patience=QUICK)
    other = origin.url + "?other"
    fetch(find(other), tmp_path / "b.bin", patience=QUICK)
    assert set(json.loads((tmp_path / "resources.lock.json").read_text())) == {origin.url, other}


def test_broken_lock_file_is_named(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text("{")
    with pytest.raises(InputError, match=r"lock\.json is not a lock file"):
        fetch(_resource(origin), tmp_path / "a.bin", lock=tmp_path / "lock.json", patience=QUICK)


@pytest.mark.parametrize(("code", "words"), [(404, "check the address"), (403, "permission"), (410, "removed")])
def test_lasting_refusals_are_not_retried(origin: Origin, tmp_path: Path, code: int, words: str) -> None:
    origin.faults = [("status", code)]
    with pytest.raises(InputError, match=f"{code}.*{words}"):
        fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert len(origin.requests) == 1
    assert _left(tmp_path) == []


def test_pauses_grow_and_heed_the_server(origin: Origin, tmp_path: Path) -> None:
    origin.faults = [("status", 429)] * 10
    pauses: list[float] = []
    patience = Patience(attempts=6, first_pause=2, longest_pause=20, sleep=pauses.append)
    with pytest.raises(InputError, match="status 429"):
        fetch(_resource(origin), tmp_path / "file.bin", patience=patience)
    assert pauses == [7, 7, 8, 16, 20]


def test_no_network(tmp_path: Path) -> None:
    with contextlib.closing(http.server.HTTPServer(("127.0.0.1", 0), _Handler).socket) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InputError, match=r"could not be fetched .*check the network"):
        fetch(find(f"http://127.0.0.1:{port}/file"), tmp_path / "file.bin", patience=QUICK)
    assert _left(tmp_path) == []


def test_redirects_are_followed_but_not_out_of_http(origin: Origin, tmp_path: Path) -> None:
    moved = replace(_resource(origin), url=origin.url.replace("/file", "/moved"))
    fetch(moved, tmp_path / "a.bin", patience=QUICK)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    origin.faults = [("redirect", 0)]
    with pytest.raises(InputError, match="not safe to follow"):
        fetch(_resource(origin), tmp_path / "b.bin", patience=QUICK)


def test_size_is_checked_before_the_body(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has {len(CONTENT)} bytes where 12 are expected"):
        fetch(_resource(origin, size=12), tmp_path / "file.bin", patience=QUICK)
    origin.lengths = False
    with pytest.raises(InputError, match=f"has {len(CONTENT)} bytes where 12 are expected"):
        fetch(_resource(origin, size=12), tmp_path / "file.bin", patience=QUICK)
    assert _left(tmp_path) == []


def test_full_disk_is_said_before_and_during(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(download_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
        with pytest.raises(InputError, match="0 bytes free where 1048576 are needed"):
            fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)

    def full(stream: io.BufferedIOBase, block: bytes, part: Path) -> None:
        class Full:
            def write(self, block: bytes) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write(Full(), block, part)  # type: ignore[arg-type]

    write = download_module._write
    monkeypatch.setattr(download_module, "_write", full)
    with pytest.raises(InputError, match=r"is full \(No space left on device\)"):
        fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert not (tmp_path / "file.bin").exists()


def test_two_fetches_to_one_place(origin: Origin, tmp_path: Path) -> None:
    import fcntl

    with open(tmp_path / "file.bin.part", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="being written by another fetch"):
            fetch(_resource(origin), tmp_path / "file.bin", patience=QUICK)
    assert origin.requests == []


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_member_of_an_archive(origin: Origin, tmp_path: Path) -> None:
    origin.content = _zip({"set/train.csv": b"id,cif\n", "set/val.csv": b"val\n", "../../evil": b"no"})
    resource = _resource(origin, member="set/train.csv", digest=_sha(origin.content))
    fetch(resource, tmp_path / "in" / "train.csv", patience=QUICK)
    assert (tmp_path / "in" / "train.csv").read_bytes() == b"id,cif\n"
    fetch(resource, tmp_path / "in" / "val.csv", member="set/val.csv", patience=QUICK)
    assert _left(tmp_path / "in") == ["train.csv", "val.csv"]
    fetch(resource, tmp_path / "whole.zip", patience=QUICK)
    assert (tmp_path / "whole.zip").read_bytes() == origin.content
    with pytest.raises(InputError, match=r"no file 'set/test.csv'; name one of .*set/train\.csv"):
        fetch(resource, tmp_path / "test.csv", member="set/test.csv", patience=QUICK)
    assert _left(tmp_path) == ["in", "test.csv.zip.part", "test.csv.zip.part.json", "whole.zip"]
    fetch(resource, tmp_path / "test.csv", member="set/val.csv", patience=QUICK)
    assert not (tmp_path / "test.csv.zip.part").exists()


def test_archive_that_is_none_or_broken(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a readable zip"):
        fetch(_resource(origin, member="a"), tmp_path / "a", patience=QUICK)
    whole = bytearray(_zip({"a": bytes(range(256)) * 40}))
    whole[60] ^= 0xFF
    origin.content = bytes(whole)
    origin.etag = '"broken"'
    with pytest.raises(InputError, match="not a readable zip"):
        fetch(_resource(origin, member="a"), tmp_path / "a", lock=tmp_path / "other.json", patience=QUICK)
    assert not (tmp_path / "a").exists()


def test_file_addresses(tmp_path: Path) -> None:
    source = tmp_path / "with space.bin"
    source.write_bytes(CONTENT)
    fetch(find(source.as_uri()), tmp_path / "copy.bin", sha256_hex=_sha().value)
    assert (tmp_path / "copy.bin").read_bytes() == CONTENT
    with pytest.raises(InputError, match="does not exist; check the path"):
        fetch(find((tmp_path / "none").as_uri()), tmp_path / "x")
    with pytest.raises(InputError, match="another machine"):
        fetch(find("file://elsewhere/none"), tmp_path / "x")
    assert _left(tmp_path) == ["copy.bin", "with space.bin"]


def test_the_command(origin: Origin, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(command, [origin.url, "--out", "file.bin", "--json"], catch_exceptions=False)
    summary = json.loads(done.stdout)
    assert (summary["sha256"], summary["size"], summary["fresh"]) == (_sha().value, len(CONTENT), True)
    assert _left(tmp_path) == ["file.bin", "resources.lock.json"]
    listed = runner.invoke(command, ["--list"], catch_exceptions=False)
    assert "mp20-train" in listed.stdout
    assert "CC BY 4.0" in listed.stdout


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("mp20-trian", "did you mean 'mp20-train'"),
        ("nothing-like-it-at-all", "the registry has"),
        ("ftp://example.org/file", "'ftp:' are not fetched"),
        ("data:text/plain,hello", "'data:' are not fetched"),
        ("embedded:../secret", "'embedded:' are not fetched"),
        ("https:///file", "names no host"),
        ("https://[half", "is not an address"),
    ],
)
def test_unknown_names_and_addresses(what: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find(what)


@pytest.mark.parametrize("text", ["", "abc", "sha256:12", "md5:" + "0" * 32, "g" * 64])
def test_digests_are_checked(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a digest"):
        Digest.parse(text)


def test_every_entry_is_complete() -> None:
    for name, resource in load_registry().items():
        assert resource.kind in KINDS
        assert resource.scheme in ("https", "embedded"), name
        assert resource.description, name
        assert resource.licence, name
        assert resource.citation, name
        assert resource.format, name
        assert find(name) is resource
    assert len({resource.url for resource in load_registry().values()}) == len(load_registry())


@pytest.mark.parametrize("name", [name for name, resource in load_registry().items() if resource.scheme == "embedded"])
def test_embedded_files_are_those_of_the_registry(name: str, tmp_path: Path) -> None:
    resource = find(name)
    assert resource.digest is not None, "run scripts/update_registry.py"
    assert fetch(resource, tmp_path / resource.file_name).verified == "sha256"


def test_what_a_setting_may_name(tmp_path: Path) -> None:
    assert choose("policy.source", "embedded", "policy") is find("embedded-policy")
    assert choose("policy.source", "crystalformer-alex20", "policy") is find("crystalformer-alex20")
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"")
    assert choose("policy.source", str(own), "policy", (".safetensors", ".pkl")) == own
    with pytest.raises(InputError, match=r"'policy\.source' is 'mp20-train', which is of kind crystals"):
        choose("policy.source", "mp20-train", "policy")
    with pytest.raises(InputError, match="did you mean 'crystalformer-alex20'"):
        choose("policy.source", "crystalformer-alex2", "policy")
    (tmp_path / "own.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"ends in \.safetensors or \.pkl"):
        choose("policy.source", str(tmp_path / "own.npz"), "policy", (".safetensors", ".pkl"))
