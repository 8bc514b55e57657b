"""The policy: parity with the published code, and the laws that tie sampler and likelihood together."""

from __future__ import annotations

import dataclasses
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from click.testing import CliRunner
from policy_examples import SMALL, examples, log_prob, small_policy
from scipy import stats

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.tokens import sites_from_table
from crystalformer_rl.errors import InputError
from crystalformer_rl.policy.batch import TokenBatch, make_batch
from crystalformer_rl.policy.checkpoint import load_policy, save_policy
from crystalformer_rl.policy.constraints import Behaviour, Progress, allowed_elements, letter_log_probs
from crystalformer_rl.policy.densities import (
    GaussianMixture,
    VonMisesMixture,
    coordinate_log_density,
    lattice_log_density,
    sample_coordinate,
    sample_von_mises,
)
from crystalformer_rl.policy.published import load_published, read_arrays
from crystalformer_rl.policy.sampler import LANES, crystal_keys, sample, sample_batch, sites_of, stages
from crystalformer_rl.policy.token_log_probs import log_probs_of
from crystalformer_rl.policy.transformer import TOKENS_PER_SITE
from crystalformer_rl.tables.parquet import read_table

PLAIN = Behaviour.make()
NARROW = Behaviour.make(temperature=0.7, top_p=0.9, allowed=allowed_elements({8, 11, 17, 26}))
UNIFORM = [1.0] * 230
STAGE_END = stages(21, LANES)[0][0]
"""Places of the first stage."""


@pytest.fixture(scope="module")
def samples():
    return sample(small_policy(), 3, range(96), UNIFORM, PLAIN)


def test_synthetic_parity(root):
    """Log-probabilities of the published code, float32, on made-up sequences."""
    folder = root / "tests" / "data" / "synthetic"
    table = read_table(folder / "tokens.parquet")
    columns, statuses = log_probs_of(load_published(folder / "epoch_000001.pkl"), sites_from_table(table, "tokens"))
    assert set(statuses) == {"ok"}
    for part in ("w", "xyz", "a", "l"):
        np.testing.assert_allclose(columns[f"log_prob_{part}"], table.column(f"ref_{part}").to_numpy(), atol=2e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-4), ("float64", 1e-10)])
@pytest.mark.parametrize("name", ["tiny", "card_shape_2_layers"])
def test_parity_with_the_published_code(shared, name, precision, tolerance):
    folder = shared / "parity"
    tokens, stored = np.load(folder / "tokens.npz"), np.load(folder / name / f"logp_{precision}.npz")
    with jax.enable_x64(precision == "float64"):
        batch = TokenBatch(*(jnp.asarray(tokens[k][:200]) for k in ("G", "W", "A", "X", "L")))
        policy = load_published(folder / name / "epoch_000007.pkl")
        policy = jax.tree.map(lambda leaf: leaf.astype(precision), policy)
        ours = log_prob(policy, batch)
        assert ours.w.dtype == precision
        for part in ("w", "xyz", "a", "l"):
            np.testing.assert_allclose(getattr(ours, part), stored[f"logp_{part}"], rtol=0, atol=tolerance)


def test_a_hostile_pickle_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return print, ("this must not run",)

    path = tmp_path / "epoch_000001.pkl"
    path.write_bytes(pickle.dumps({"params": {"~": {"g_embeddings": Hostile()}}}))
    with pytest.raises(InputError, match=r"builtins\.print"):
        read_arrays(path)


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps([1, 2]), pickle.dumps({"params": {"a": {"b": 1}}})])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "epoch_000001.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"epoch_000001\.pkl"):
        load_policy(path)


def test_a_policy_comes_back_from_disk(tmp_path):
    policy = small_policy()
    save_policy(tmp_path / "p.safetensors", policy, {"a": 1})
    again, card = load_policy(tmp_path / "p.safetensors")
    assert card == {"a": 1}
    assert again.shape == policy.shape
    assert eqx.tree_equal(again, policy)
    whole = (tmp_path / "p.safetensors").read_bytes()
    save_policy(tmp_path / "q.safetensors", again, card)
    assert (tmp_path / "q.safetensors").read_bytes() == whole
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "header.safetensors").write_bytes(whole.replace(b"format", b"fxrmat", 1).replace(b"shape", b"shxpe", 2))
    for damaged in ("half", "header"):
        with pytest.raises(InputError, match=rf"{damaged}\.safetensors"):
            load_policy(tmp_path / f"{damaged}.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        load_policy(tmp_path)


def test_cached_outputs_are_the_uncached_ones(samples):
    policy, tokens = small_policy(), jax.tree.map(jnp.asarray, samples.tokens)
    places = 6
    whole = policy.outputs(tokens.g, tokens.w[:, :places], tokens.a[:, :places], tokens.x[:, :places])
    cache = policy.empty_cache(len(tokens.g), places * TOKENS_PER_SITE)
    step = eqx.filter_jit(policy.step)
    for place in range(places):
        embedded = [policy.embed_w(tokens.g, tokens.w[:, place]), policy.embed_a(tokens.g, tokens.a[:, place])]
        embedded += [policy.embed_x(axis, tokens.g, tokens.x[:, place, axis]) for axis in range(3)]
        for kind, token in enumerate(embedded):
            output, cache = step(token, jnp.asarray(place * TOKENS_PER_SITE + kind), cache)
            np.testing.assert_allclose(output, whole[:, place, kind], atol=2e-5)


def test_behaviour_log_prob_is_the_likelihood(samples):
    found = log_prob(small_policy(), jax.tree.map(jnp.asarray, samples.tokens)).total
    np.testing.assert_allclose(samples.behaviour_log_prob, found, atol=5e-4)
    np.testing.assert_allclose(samples.log_prob, found, atol=5e-4)


def test_behaviour_log_prob_is_the_likelihood_with_masks_and_temperature():
    policy = small_policy(n_max=7)
    drawn = sample(policy, 5, range(64), UNIFORM, NARROW)
    tokens = jax.tree.map(jnp.asarray, drawn.tokens)
    np.testing.assert_allclose(drawn.behaviour_log_prob, log_prob(policy, tokens, NARROW).total, atol=5e-4)
    np.testing.assert_allclose(drawn.log_prob, log_prob(policy, tokens).total, atol=5e-4)
    assert set(np.unique(drawn.tokens.a)) <= {0, 8, 11, 17, 26}


def test_likelihood_holds_where_some_batches_of_a_wave_are_done_before_the_others():
    """All sequences of the first batch end early, those of the others go on in a new batch at the place where they were."""
    policy, numbers = small_policy(), range(4 * LANES)
    drawn = sample(policy, 5, numbers, UNIFORM, PLAIN)
    length = (np.asarray(drawn.tokens.w) > 0).sum(-1)
    order = np.argsort(length, kind="stable")
    assert length[order[LANES - 1]] < STAGE_END < length.max()
    keys = crystal_keys(5, jnp.asarray(order, jnp.int32))
    again = sample_batch(policy, keys, jnp.asarray(np.asarray(drawn.tokens.g)[order]), PLAIN)
    for one, other in zip(again.tokens, drawn.tokens, strict=True):
        np.testing.assert_allclose(one, np.asarray(other)[order], atol=1e-4)
    np.testing.assert_allclose(again.log_prob, log_prob(policy, jax.tree.map(jnp.asarray, again.tokens)).total, atol=5e-4)


def test_behaviour_log_prob_of_a_published_policy_whose_sequence_is_full():
    """It never comes to draw a lattice, so the likelihood has none either."""
    policy = small_policy(n_max=4)
    policy = dataclasses.replace(policy, shape=dataclasses.replace(policy.shape, likelihood="published"))
    drawn = sample(policy, 0, range(64), UNIFORM, PLAIN)
    full = (np.asarray(drawn.tokens.w) > 0).all(-1)
    assert 5 < full.sum() < 64
    found = log_prob(policy, jax.tree.map(jnp.asarray, drawn.tokens))
    assert not np.asarray(found.l)[full].any()
    np.testing.assert_allclose(found.total[full], drawn.behaviour_log_prob[full], rtol=0, atol=2e-3)


def test_likelihood_does_not_depend_on_padding():
    short, long = make_batch(examples(), 4), make_batch(examples(), 12)
    for a, b in zip(log_prob(small_policy(), short), log_prob(small_policy(), long), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_crystal_depends_on_seed_and_number_alone(samples):
    one = sample(small_policy(), 3, [41], UNIFORM, PLAIN, batch_size=1)
    odd = sample(small_policy(), 3, range(40, 54), UNIFORM, PLAIN, batch_size=7)
    big = sample(small_policy(), 3, range(96), UNIFORM, PLAIN, batch_size=256)
    for whole, part, rows in ((samples, one, [41]), (samples, odd, range(40, 54)), (samples, big, range(96))):
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
            np.testing.assert_array_equal(a[list(rows)], b)
    # Short crystals and long ones: every stage of the sampler took part.
    longest = (samples.tokens.w > 0).sum(1)
    assert longest.min() < stages(21, 64)[0][0] < stages(21, 64)[-2][0] < longest.max()


def test_samples_obey_the_rules(samples):
    """Letters in order, one orbit on a fixed position, every sequence closed, tied coordinates tied."""
    from crystalformer_rl.crystal.wyckoff import wyckoff_table

    table = wyckoff_table()
    for g, w, a, x in zip(*(np.asarray(leaf) for leaf in samples.tokens[:4]), strict=True):
        n = int((w > 0).sum())
        assert 1 <= n <= 20
        assert not w[n:].any()
        assert not a[n:].any()
        assert (a[:n] > 0).all()
        assert (w[:n] <= table.n_letters(g)).all()
        steps = np.diff(w[:n])
        assert (steps >= table.no_freedom[g, w[: n - 1]]).all()
        for letter, point in zip(w[:n], x[:n], strict=True):
            first = table.operations(g, letter)[0]
            delta = first[:, :3] @ point + first[:, 3] - point
            np.testing.assert_allclose(delta - np.rint(delta), 0, atol=1e-5)
    assert len({len(s) for s, _ in sites_of(samples.tokens) if s is not None}) > 3


def test_frequencies_match_probabilities():
    """Chi-squared at level 1e-4: first letters, second letters given the first, and elements of one space group."""
    policy, n = small_policy(2, 3.0), 4096
    g = jnp.full(n, 47, jnp.int32)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(jnp.arange(n))
    tokens = sample_batch(policy, keys, g, PLAIN).tokens
    w, a = np.asarray(tokens.w), np.asarray(tokens.a)
    first = np.exp(_first_letter(policy, 47))
    assert _fits(np.bincount(w[:, 0], minlength=28), first)
    # Elements: each draw has its own law, given its letter; their sum varies less than one law's would.
    whole = policy.outputs(g, tokens.w[:, :1], jnp.zeros((n, 1), jnp.int32), jnp.zeros((n, 1, 3)))
    logits = whole[:, 0, 0, :119].at[:, 0].set(-jnp.inf)
    assert _fits(np.bincount(a[:, 0], minlength=119), np.asarray(jax.nn.softmax(logits), float).mean(0))


def test_next_letter_frequencies_match():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=28))
    log_probs = letter_log_probs(jnp.broadcast_to(logits, (20000, 28)), _progress(225, 20000, current=3, place=1), PLAIN)
    drawn = jax.random.categorical(jax.random.key(0), log_probs)
    assert _fits(np.bincount(np.asarray(drawn), minlength=28), np.exp(np.asarray(log_probs[0])))
    assert not np.isin([1, 2], np.asarray(drawn)).any()


def _first_letter(policy, g):
    return np.asarray(
        letter_log_probs(
            policy.letter_logits(policy.first_output(jnp.array([g])), jnp.array([g])),
            _progress(g, 1, current=1, place=0),
            None,
        )[0]
    )


def _progress(g, n, current, place):
    return Progress(*(jnp.full(n, x) for x in (g, current, place)), jnp.zeros((n, 0), jnp.int32))


def _fits(counts: np.ndarray, probabilities: np.ndarray) -> bool:
    """Whether counts follow probabilities, chi-squared at level 1e-4, rare classes pooled."""
    assert counts[probabilities < 1e-12].sum() == 0
    expected = probabilities * counts.sum()
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    keep = wanted > 0
    assert keep.sum() > 5
    return stats.chisquare(observed[keep], wanted[keep] * observed.sum() / wanted[keep].sum()).pvalue > 1e-4


@pytest.mark.parametrize("kappa", [0.001, 0.5, 8.0, 300.0, 3e4, 1e6])
def test_von_mises_samples(kappa):
    """Kolmogorov-Smirnov at level 1e-4 against scipy's distribution (a Gaussian for the sharpest)."""
    draws = jax.vmap(lambda k: sample_von_mises(k, jnp.float32(kappa)))(jax.random.split(jax.random.key(1), 4000))
    law = stats.vonmises(kappa).cdf if kappa < 1e4 else stats.norm(scale=kappa**-0.5).cdf
    assert stats.kstest(np.asarray(draws, float), law).pvalue > 1e-4


def test_coordinate_density_is_that_of_the_samples():
    mixture = VonMisesMixture(jnp.log(jnp.array([0.3, 0.7])), jnp.array([-2.0, 9.0]), jnp.array([3.0, 40.0]))
    grid = jnp.linspace(0, 1, 4001)
    batch = VonMisesMixture(*(jnp.broadcast_to(leaf, (len(grid), 2)) for leaf in mixture))
    density = np.exp(np.asarray(coordinate_log_density(batch, grid), float)) * 2 * np.pi
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-4)
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)]) / 4000
    uniform = jax.random.uniform(jax.random.key(1), (4000,))
    draws = jax.vmap(lambda k, u: sample_coordinate(k, u, mixture))(jax.random.split(jax.random.key(0), 4000), uniform)
    assert stats.kstest(np.asarray(draws, float), lambda x: np.interp(x, grid, cumulative)).pvalue > 1e-4


def test_joint_lattice_density_integrates_to_one():
    """Two free parameters on a grid; the published form does not count the same thing."""
    random = np.random.default_rng(0)
    mixture = GaussianMixture(
        jnp.log(jnp.array([0.4, 0.6])),
        jnp.asarray(random.uniform(1, 2, (2, 6))),
        jnp.asarray(random.uniform(0.1, 0.2, (2, 6))),
    )
    side = np.linspace(0, 3, 301)
    a, c = np.meshgrid(side, side, indexing="ij")
    points = np.zeros((a.size, 6))
    points[:, 0], points[:, 2] = a.ravel(), c.ravel()
    free = jnp.asarray([True, False, True, False, False, False])
    batch = GaussianMixture(*(jnp.broadcast_to(leaf, (len(points), *leaf.shape)) for leaf in mixture))
    total = {
        form: float(np.exp(np.asarray(lattice_log_density(batch, jnp.asarray(points), free, form), float)).sum() * 1e-4)
        for form in ("normalized", "published")
    }
    assert total["normalized"] == pytest.approx(1, abs=1e-3)
    joint = lattice_log_density(batch, jnp.asarray(points), free, "normalized")
    apart = lattice_log_density(batch, jnp.asarray(points), free, "published")
    assert not np.allclose(joint, apart)


def test_low_temperature_is_greedy():
    policy = small_policy()
    g = jnp.full(64, 225, jnp.int32)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(7), i))(jnp.arange(64))
    tokens = sample_batch(policy, keys, g, Behaviour.make(temperature=1e-3)).tokens
    assert (np.asarray(tokens.w[:, 0]) == int(np.argmax(_first_letter(policy, 225)))).all()


def test_sample_command(tmp_path):
    path = tmp_path / "p.safetensors"
    save_policy(path, small_policy(), {"space_group_counts": [0] * 224 + [3] + [0] * 5})
    runner = CliRunner()
    out = tmp_path / "s.parquet"
    base = ["sample", "--policy", str(path), "--n", "12", "--out", str(out)]
    assert runner.invoke(cli, base).exit_code == 0
    table = read_table(out)
    assert table.num_rows == 12
    assert {g for g in table.column("space_group").to_pylist() if g is not None} <= {225}
    first = out.read_bytes()
    assert runner.invoke(cli, base).exit_code == 0
    assert out.read_bytes() == first
    chosen = runner.invoke(cli, [*base, "--space-group", "221", "136", "--elements", "Na,Cl", "O"])
    assert chosen.exit_code == 0, chosen.output
    table = read_table(out)
    assert {g for g in table.column("space_group").to_pylist() if g is not None} <= {221, 136}
    assert {z for row in table.column("elements").to_pylist() if row for z in row} <= {8, 11, 17}
    scored = runner.invoke(cli, ["log-prob", "--policy", str(path), str(out), "--out", str(tmp_path / "l.parquet")])
    assert scored.exit_code == 0, scored.output
    again = read_table(tmp_path / "l.parquet")
    for ours, theirs, status in zip(
        *(t.column("log_prob").to_pylist() for t in (table, again)), again.column("status").to_pylist(), strict=True
    ):
        assert status == "upstream_failed" or ours == pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--policy", "none.safetensors", "--n", "1"], "none.safetensors does not exist"),
        (["--policy", "p.safetensors", "--n", "0"], "--n"),
        (["--policy", "p.safetensors", "--n", "1", "--space-group", "231"], "--space-group"),
        (["--policy", "p.safetensors", "--n", "1", "--elements", "Xx"], "'Xx' is not an element symbol"),
        (["--policy", "p.safetensors", "--n", "1"], "does not say which space groups"),
    ],
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    save_policy("p.safetensors", small_policy(), {})
    result = CliRunner().invoke(cli, ["sample", *arguments, "--out", "s.parquet"])
    assert result.exit_code != 0
    assert says in f"{result.output} {result.exception}"
    assert not (tmp_path / "s.parquet").exists()


def test_shape_is_checked():
    with pytest.raises(InputError, match="key_size"):
        type(SMALL)(key_size=7)
    with pytest.raises(InputError, match="'layers' is not a field"):
        type(SMALL).from_dict({"layers": 3}, "here")
