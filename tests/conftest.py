"""Fixtures that several test modules share."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from crystalformer_rl.potential.protocol import Potential

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
HIDE_SHARED = "CRYSTALFORMER_TESTS_HIDE_SHARED"
"""Environment variable that hides the developers' folder, to prove that the suite passes where it is not."""

# Programs are compiled once for all tests and test processes, those that tests start among them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need the developers' folder can be run alone, by their marker."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.needs_shared)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and reference outputs that lie beside a checkout of the developers; elsewhere the test is skipped."""
    if os.environ.get(HIDE_SHARED) or not SHARED.is_dir():
        pytest.skip("needs the folder `shared` beside the repository (real crystals and reference outputs)")
    return SHARED


@pytest.fixture(scope="session")
def chgnet() -> Potential:
    """The embedded potential, loaded once."""
    from crystalformer_rl.potential import load

    return load("chgnet")


@pytest.fixture(scope="session")
def embedded(root: Path) -> Path:
    """The reference that comes with the repository: real crystals, relaxed with the default potential."""
    return root / "resources" / "embedded" / "reference.parquet"


@pytest.fixture(scope="session")
def real_crystals(embedded: Path) -> pa.Table:
    """Rows of the embedded reference that hold a crystal: 13,000 of the Materials Project, relaxed."""
    table = pq.read_table(embedded)
    return table.filter(pc.is_valid(table["lattice"]))


@pytest.fixture(scope="module")
def two_stages() -> Iterator[None]:
    """The sampler passes from one stage to the next once: two programs to compile, in place of five."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crystalformer_rl.policy.sampler._STAGES", ((4, 2),))
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The folder of a tiny run from end to end, made once for all test processes; tests that change it copy it."""
    from workflow_examples import TINY, Workflow

    # Processes of one session have a common folder above their own.
    common = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        common = common.parent
    folder = common / "tiny_run"
    with open(common / "tiny_run.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "said.txt").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            done = Workflow(root, folder).snakemake("--cores", "2", config=TINY)
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    return folder
