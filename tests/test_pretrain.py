"""Pretraining: what is held out, what a batch holds, and that a run goes on exactly where it was cut off."""

from __future__ import annotations

from xml.etree import ElementTree

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from policy_examples import SMALL, rock_salt, rutile, same_sites, small_policy

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.split import held_out
from crystalformer_rl.crystal.tokens import Sites, sort_sites, token_columns
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.checkpoint import load_policy
from crystalformer_rl.policy.dataset import (
    BUCKETS,
    Dataset,
    Variations,
    count_batches,
    load_dataset,
    minibatches,
    sites_formula,
)
from crystalformer_rl.policy.pretrain_settings import TrainingSettings
from crystalformer_rl.policy.pretraining import loss, pretrain
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import TOKENS
from crystalformer_rl.tables.parquet import read_table, write_table

SETTINGS = TrainingSettings(epochs=3, batch_size=16, learning_rate=5e-3, warmup_steps=2, dropout=0.1, seed=4)


def family(n: int = 60) -> list[Sites]:
    """Rock salts and rutiles of many elements."""
    random = np.random.default_rng(0)
    crystals = []
    for i in range(n):
        a, b = random.choice(np.arange(3, 90), 2, replace=False)
        template = rock_salt() if i % 2 else rutile()
        crystals.append(
            sort_sites(template.space_group, template.wyckoff, [a, b], template.frac_coords, template.lattice_parameters)
        )
    return crystals


def write_tokens(path, crystals) -> None:
    columns = {"id": [f"t{i}" for i in range(len(crystals))], **token_columns(crystals)}
    write_table(path, make_table(TOKENS, columns), {})


def test_held_out_formulas_are_apart(tmp_path):
    write_tokens(tmp_path / "t.parquet", family(200))
    dataset = load_dataset(tmp_path / "t.parquet", 21)
    assert len(dataset.training) + len(dataset.held_out) == 200
    trained = {sites_formula(s) for s in dataset.training}
    assert dataset.held_out
    assert not trained & {sites_formula(s) for s in dataset.held_out}
    assert not any(held_out(formula) for formula in trained)


def test_every_crystal_once_an_epoch():
    crystals = family(50)
    seen = 0
    for tokens, weight in minibatches(crystals, 16, (0, 0)):
        assert tokens.w.shape[1] - 1 in BUCKETS
        seen += int(weight.sum())
    assert seen == 50
    assert count_batches(crystals, 16) == len(list(minibatches(crystals, 16, None)))
    one, other = (np.concatenate([b.tokens.g for b in minibatches(crystals, 16, (0, e))]) for e in (0, 1))
    assert not np.array_equal(one, other)


def test_rows_that_fill_up_do_not_count():
    (tokens, weight), *_ = minibatches([rock_salt()] * 3, 8, None)
    assert weight.sum() == 3
    of_batch = eqx.filter_jit(loss)
    whole = of_batch(small_policy(), tokens, jnp.asarray(weight))
    single = of_batch(small_policy(), *(next(minibatches([rock_salt()], 1, None))._replace(weight=jnp.ones(1))))
    assert float(whole) == pytest.approx(3 * float(single), rel=1e-5)


def test_a_crystal_counts_by_its_weight(tmp_path):
    """Twice the weight is the same crystal twice; weight 0 is none, null is 1."""
    crystals = [s for s in family(60) if not held_out(sites_formula(s))][:4]
    columns = {"id": list("abcd"), **token_columns(crystals)}
    table = make_table(TOKENS, columns).append_column("weight", pa.array([2.0, 0.5, None, 0.0]))
    write_table(tmp_path / "t.parquet", table, {})
    dataset = load_dataset(tmp_path / "t.parquet", 21)
    assert len(dataset.training) == 3
    assert dataset.weights is not None
    of_batch = eqx.filter_jit(loss)

    def total(training, weights=None):
        batches = minibatches(training, 8, None, weights)
        return sum(float(of_batch(small_policy(), tokens, jnp.asarray(weight))) for tokens, weight in batches)

    first, second, third = crystals[:3]
    expected = total([first, first]) + 0.5 * total([second]) + total([third])
    assert total(dataset.training, dataset.weights) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(tmp_path, wrong):
    crystals = family(3)
    table = make_table(TOKENS, {"id": list("abc"), **token_columns(crystals)})
    write_table(tmp_path / "t.parquet", table.append_column("weight", pa.array([1.0, wrong, 1.0])), {})
    with pytest.raises(InputError, match="weight"):
        load_dataset(tmp_path / "t.parquet", 21)


class Cut(Exception):
    """Stands for a kill."""


def test_a_run_cut_off_goes_on_to_the_same_weights(tmp_path):
    dataset = Dataset(family(40), family(8))
    whole, curve = pretrain(dataset, SMALL, SETTINGS)
    assert curve[-1].held_out_nll < curve[0].held_out_nll

    def cut(record):
        if record.epoch == 2:
            raise Cut

    state = tmp_path / "state"
    with pytest.raises(Cut):
        pretrain(dataset, SMALL, SETTINGS, checkpoint=state, report=cut)
    resumed, again = pretrain(dataset, SMALL, SETTINGS, checkpoint=state)
    assert [r[:4] for r in again] == [r[:4] for r in curve]
    assert eqx.tree_equal(resumed, whole)

    weighed = dataset._replace(weights=np.linspace(0.1, 1.0, 40, dtype=np.float32))
    for changed in (Dataset(dataset.training[1:], dataset.held_out), Dataset(dataset.training, family(9)), weighed):
        with pytest.raises(InputError, match="other crystals"):
            pretrain(changed, SMALL, SETTINGS, checkpoint=state)
    with pytest.raises(InputError, match="other settings"):
        pretrain(dataset, SMALL, SETTINGS.model_copy(update={"dropout": 0.3}), checkpoint=state)


def test_pretrain_command(tmp_path):
    write_tokens(tmp_path / "t.parquet", family(40))
    shape = "{num_layers: 1, num_heads: 2, key_size: 8, model_size: 16, embed_size: 8, h0_size: 16}"
    (tmp_path / "c.yaml").write_text(f"shape: {shape}\ntraining: {{epochs: 2, batch_size: 16}}\n")
    arguments = [
        "pretrain",
        str(tmp_path / "t.parquet"),
        "--out",
        str(tmp_path / "p.safetensors"),
        "--config",
        str(tmp_path / "c.yaml"),
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    _, card = load_policy(tmp_path / "p.safetensors")
    assert card["training_crystals"] + card["held_out_crystals"] == 40
    assert sum(card["space_group_counts"]) == card["training_crystals"]
    assert read_table(tmp_path / "p.curve.parquet").num_rows == 2
    picture = ElementTree.parse(tmp_path / "p.curve.svg").getroot()
    words = [g.get("id") for g in picture.iter("{http://www.w3.org/2000/svg}g")]
    best = read_table(tmp_path / "p.curve.parquet").num_rows
    assert words.count("legend_1") == 1
    lines = [path.get("d", "") for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("clip-path")]
    # Training and held out, a point an epoch each; grid and the mark of the best are lines of two points too.
    assert sum(line.split().count("M") == 1 and line.split().count("L") == best - 1 for line in lines) >= 2
    assert not (tmp_path / "p.safetensors.state").exists()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("training: {epoch: 3}", "did you mean 'training.epochs'"),
        ("training: {epochs: -1}", "'training.epochs' is -1; give a whole number"),
        ("shape: {layers: 2}", "did you mean 'shape.num_layers'"),
        ("[1, 2", "not valid YAML"),
        ("seed: 3", "did you mean 'training.seed'"),
    ],
)
def test_a_wrong_config_is_named(tmp_path, config, says):
    write_tokens(tmp_path / "t.parquet", family(10))
    (tmp_path / "c.yaml").write_text(config)
    arguments = [
        "pretrain",
        str(tmp_path / "t.parquet"),
        "--out",
        str(tmp_path / "p.safetensors"),
        "--config",
        str(tmp_path / "c.yaml"),
    ]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code != 0
    assert says in str(result.exception)
    assert not (tmp_path / "p.safetensors").exists()


def test_variations_are_other_descriptions_of_the_same_crystals():
    crystals = [rock_salt(), rutile()] * 20
    variations = Variations(crystals)
    assert variations.draw(0.0, (0,)) == crystals
    drawn = variations.draw(1.0, (0, 1))
    assert all(same_sites(a, b) for a, b in zip(drawn, variations.draw(1.0, (0, 1)), strict=True))
    salts = {tuple(sites.elements) for sites in drawn[::2]}
    assert salts == {(11, 17), (17, 11)}
    assert all(sites.n_atoms == original.n_atoms for sites, original in zip(drawn, crystals, strict=True))
