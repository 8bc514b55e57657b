"""What cannot be compared, or is not finished, is refused in one sentence; what is merely poor is compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from comparison_examples import POLICIES, ROUNDS, write_arms
from discovery_examples import IDENTITY

from crystalformer_rl.cli import cli
from crystalformer_rl.comparison.curves import curves_table
from crystalformer_rl.comparison.run_reader import read_runs
from crystalformer_rl.errors import InputError
from crystalformer_rl.tables.parquet import read_table, write_table
from crystalformer_rl.tables.provenance import read_provenance

Change = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arms(tmp_path_factory.mktemp("arms"), 20)


@pytest.fixture
def results(whole: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "results"))


def refused(folder: Path, *policies: str) -> str:
    with pytest.raises(InputError) as caught:
        read_runs(folder, policies)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def compare(folder: Path) -> str:
    run = CliRunner().invoke(cli, ["compare", str(folder), "--out", str(folder / "comparison")], catch_exceptions=False)
    assert run.exit_code == 0
    return (folder / "comparison" / "comparison.md").read_text()


def test_what_is_no_comparison(results: Path, tmp_path: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nothing")
    assert "no evaluation of the base policy" in refused(tmp_path)
    shutil.copytree(results / "evaluation" / "base", tmp_path / "alone" / "evaluation" / "base")
    assert "holds no arms to compare" in refused(tmp_path / "alone")
    assert "base policy alone is named" in refused(results, "base")
    assert "'tuned' is not a policy of a comparison" in refused(results, "tuned")
    assert "metrics.parquet does not exist" in refused(results, "ppo-9")


def remove(*places: str) -> Change:
    return lambda folder: [shutil.rmtree(folder / place) for place in places]


def rename(old: str, new: str) -> Change:
    return lambda folder: [(folder / part / old).rename(folder / part / new) for part in ("finetune", "evaluation")]


def write_settings(policy: str, text: str) -> Change:
    return lambda folder: (folder / "finetune" / policy / "settings.json").write_text(text)


def edit_settings(policy: str, section: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "finetune" / policy / "settings.json"
        settings = json.loads(path.read_text())
        settings[section] |= values
        path.write_text(json.dumps(settings))

    return change


def rewrite(place: str, record: dict[str, Any] | None = None, **columns: Any) -> Change:
    """Tables with whole columns set to a value, and provenance with other entries."""

    def change(folder: Path) -> None:
        paths = sorted(folder.glob(place))
        assert paths
        for path in paths:
            table = read_table(path)
            for name, value in columns.items():
                at = table.column_names.index(name)
                field = table.schema.field(at)
                table = table.set_column(at, field, pa.array([value] * table.num_rows, field.type))
            write_table(path, table, read_provenance(path) | (record or {}))

    return change


OTHER = {"potential": {**IDENTITY, "name": "other"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename("sft-0", "base-0"), "'base-0' cannot be compared, as 'base' is the name of another policy; rename the arm"),
        (rename("sft-0", "tuned-1"), "'tuned-1' cannot be compared, as 'tuned' is the name of another policy"),
        (remove("finetune/ppo-0/round_2"), "72 crystals were sampled for best_of_n-0 but 36 for ppo-0"),
        (remove("finetune/ppo-0/round_1"), "ppo-0 does not hold updates 1 to 6 once each with their crystals"),
        (remove("finetune/ppo-0/round_1", "finetune/ppo-0/round_2"), "holds no rounds of fine-tuning"),
        (remove("finetune/sft-0"), "holds no rounds of fine-tuning"),
        (rewrite("finetune/ppo-0/round_2/rollouts.parquet", update=4), "ppo-0 does not hold updates 1 to 6 once each"),
        (remove("evaluation/ppo-0"), "holds no evaluation of ppo-0 yet"),
        (remove("evaluation/ppo-1", "evaluation/sft-0", "finetune/sft-0/round_1", "finetune/sft-0/round_2"),
         "holds no evaluation of ppo-1, sft-0 yet (evaluation/ARM-SEED); let the pipeline finish, or choose what"),
        (remove("evaluation/base"), "no evaluation of the base policy"),
        (rewrite("evaluation/sft-0/metrics.parquet", stability_threshold=0.0),
         "stable means at most 0.1 eV/atom above the hull for base but 0 for sft-0"),
        (edit_settings("ppo-1", "finetune", tau=0.1, clip=0.3),
         "ppo-0 and ppo-1 are seeds of one arm but differ in clip, tau"),
        (edit_settings("sft-0", "reward", failure=-2.0), "best_of_n-0 and sft-0 had different rewards"),
        (rewrite("finetune/sft-0/*/updates.parquet", OTHER), "best_of_n-0 was rewarded by example (weights 00000000, "
         "corrections none) but sft-0 by other"),
        (rewrite("judge/sft-0.parquet", OTHER), "base was judged by second"),
        (rewrite("judge/*.parquet", {"potential": IDENTITY}), "the judge, example (weights 00000000, corrections none), is "
         "the potential that gave the rewards; judge by another one"),
        (lambda folder: (folder / "judge" / "base.parquet").unlink(), "judge lacks base.parquet, while others are judged"),
        (rewrite("judge/sft-0.parquet", id="?"), "judges other crystals than were evaluated"),
        (write_settings("ppo-0", ""), "settings.json is not valid JSON (Expecting value"),
        (write_settings("ppo-0", "{"), "settings.json is not valid JSON"),
        (write_settings("ppo-0", "[]"), "settings.json does not hold sections `finetune` and `reward`"),
    ],
)  # fmt: skip
def test_what_would_make_the_document_untrue(results: Path, change: Change, words: str) -> None:
    change(results)
    assert words in refused(results)


def test_what_is_finished_can_be_chosen(results: Path) -> None:
    shutil.rmtree(results / "evaluation" / "ppo-0")
    assert [run.policy for run in read_runs(results, ("sft-0", "ppo-1"))] == ["base", "sft-0", "ppo-1"]
    assert "metrics.parquet does not exist" in refused(results, "ppo-0")


def test_what_may_differ(results: Path, whole: Path) -> None:
    """Seeds, how an arm divides its crystals into updates, evaluations of the potential, and folders that are no rounds."""
    edit_settings("ppo-1", "finetune", seed=1)(results)
    edit_settings("sft-0", "finetune", batch=36, updates=1)(results)
    for k in range(1, ROUNDS + 1):
        place = f"finetune/sft-0/round_{k}"
        rewrite(f"{place}/rollouts.parquet", update=k)(results)
        updates = results / place / "updates.parquet"
        write_table(updates, read_table(updates).slice(0, 1), read_provenance(updates))
        rewrite(f"{place}/updates.parquet", update=k, evaluations=30)(results)
    shutil.copytree(results / "finetune" / "ppo-0" / "round_1", results / "finetune" / "ppo-0" / "round_1.bak")
    shutil.copytree(results / "finetune" / "ppo-0", results / "finetune" / "ppo-old")
    runs = read_runs(results)
    assert [run.policy for run in runs] == list(POLICIES) == [run.policy for run in read_runs(whole)]
    assert [len(run.updates) for run in runs] == [0, 6, 6, 6, 2]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "change",
    [
        rewrite("finetune/*-0/*/rollouts.parquet", reward=None),
        rewrite("finetune/*-?/*/rollouts.parquet", reward=None),
        rewrite("finetune/best_of_n-0/*/rollouts.parquet", status="no_crystal"),
        rewrite("finetune/*-?/*/updates.parquet", evaluations=0),
    ],
)
def test_arms_without_rewards_are_drawn(results: Path, change: Change) -> None:
    change(results)
    assert "## Stable and new crystals" in compare(results)
    assert "</svg>" in (results / "comparison" / "comparison.svg").read_text()


def test_a_selection_of_nothing_has_no_fractions(results: Path) -> None:
    rewrite("finetune/best_of_n-0/*/rollouts.parquet", status="potential_failed")(results)
    rows = [row for row in curves_table(read_runs(results)).to_pylist() if row["arm"] == "best_of_n"]
    assert all(row["n"] == 0 and row["stable_fraction"] is row["sun_fraction"] is row["reward_mean"] is None for row in rows)
