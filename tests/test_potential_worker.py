"""A worker that holds a potential: interrupted, killed, asked by several; and what its progress adds up to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ase.build import bulk

from crystalformer_rl.potential.client import PotentialWorker
from crystalformer_rl.reading.objects import crystals_table
from crystalformer_rl.scoring.groups import ANSWERS, FUNCTIONS
from crystalformer_rl.stages.questions import RECOMPUTE, RELAX
from crystalformer_rl.tables.energy_columns import RELAXED
from crystalformer_rl.tables.provenance import record_of


@pytest.fixture(autouse=True)
def _calculators_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker finds the calculators beside this module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")


def relaxed(worker: PotentialWorker, *names: str, advance: Any = None) -> pa.Table:
    crystals = crystals_table([bulk(name) for name in names])
    return worker.map(RELAX, crystals, RELAXED, advance=advance, settings={"max_evaluations": 2})


def test_after_an_interrupt_the_next_answer_is_to_the_next_question() -> None:
    def interrupt(finished: int) -> None:
        raise KeyboardInterrupt

    with PotentialWorker("ase:calculators:lennard_jones") as worker:
        assert worker._process is not None
        first = worker._process.pid
        with pytest.raises(KeyboardInterrupt):
            relaxed(worker, "Si", "Al", advance=interrupt)
        assert relaxed(worker, "Cu").column("formula").to_pylist() == ["Cu"]
        assert worker._process.pid != first


def test_a_worker_that_died_meanwhile_is_started_again(embedded: Path) -> None:
    with PotentialWorker("chgnet") as worker:
        assert worker._process is not None
        worker._process.kill()
        worker._process.wait()
        assert worker.ask(RECOMPUTE, reference=str(embedded)).column("deviation")[0].as_py() < 2e-3


def test_progress_counts_each_crystal_once_although_a_worker_dies(capfd: pytest.CaptureFixture[str]) -> None:
    finished: list[int] = []
    with PotentialWorker("ase:calculators:deadly_to_quartz") as worker:
        found = relaxed(worker, "Cu", "Al", "Si", "Ge", advance=finished.append)
    assert found.column("status").to_pylist() == ["ok", "ok", "out_of_memory", "ok"]
    assert sum(finished) == 4
    assert min(finished) > 0


def test_the_record_of_a_table_does_not_die_with_its_first_crystal(capfd: pytest.CaptureFixture[str]) -> None:
    with PotentialWorker("ase:calculators:deadly_to_quartz") as worker:
        found = relaxed(worker, "Si", "Cu")
        assert found.column("status").to_pylist() == ["out_of_memory", "ok"]
        assert record_of(found)["potential"] == worker.identity.as_record()


def test_threads_that_ask_one_worker_get_their_own_answers() -> None:
    answers: dict[str, list[str]] = {}
    with PotentialWorker("ase:calculators:lennard_jones") as worker:

        def ask(name: str) -> None:
            for _ in range(5):
                table = crystals_table({name: bulk(name)})
                found = worker.map(FUNCTIONS["energy"], table, ANSWERS["energy"])
                answers.setdefault(name, []).extend(found.column("id").to_pylist())

        threads = [threading.Thread(target=ask, args=(name,)) for name in ("Cu", "Al", "Ag")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {name: [name] * 5 for name in ("Cu", "Al", "Ag")}
