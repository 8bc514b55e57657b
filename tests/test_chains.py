"""Template Markov chains: their stationary law is the policy's likelihood, with or without a reward."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from policy_examples import log_prob, rock_salt, rutile, small_policy
from scipy import stats

from crystalformer_rl.cli import cli
from crystalformer_rl.crystal.tokens import sort_sites, token_columns
from crystalformer_rl.policy.batch import make_batch
from crystalformer_rl.policy.chains import ChainSettings, start_chains, step
from crystalformer_rl.policy.checkpoint import save_policy
from crystalformer_rl.policy.constraints import allowed_elements
from crystalformer_rl.tables.column import make_table
from crystalformer_rl.tables.crystal_columns import TOKENS
from crystalformer_rl.tables.parquet import read_table, write_table

pytestmark = pytest.mark.usefixtures("two_stages")

N = 3000
POLICY = small_policy(3, 1.5, 5)
WORTH = {3: 0.3, 11: -0.2, 17: 0.0}


def worth_of_elements(tokens):
    return np.array([sum(WORTH[int(z)] for z in row if z) for row in np.asarray(tokens.a)])


def walk(start, steps, settings, allowed, rewards=None):
    chains = start_chains(POLICY, [start] * N, rewards)
    for number in range(1, steps + 1):
        chains = step(POLICY, chains, number, 0, settings, allowed, rewards)
    return chains


def site_weights(crystals) -> np.ndarray:
    """p(w, a, x) of crystals up to a factor: the law that the lattice's own draw leaves."""
    parts = log_prob(POLICY, make_batch(crystals))
    weights = np.asarray(parts.w + parts.a + parts.xyz, float)
    return np.exp(weights - weights.max())


@pytest.mark.parametrize("rewarded", [pytest.param(False, marks=pytest.mark.slow), True])
def test_elements_follow_the_likelihood(rewarded):
    """Rock-salt sites, three elements on each: chi-squared at level 1e-4 against all nine crystals evaluated."""
    pairs = np.array([(a, b) for a in WORTH for b in WORTH])
    start = rock_salt()
    crystals = [sort_sites(225, start.wyckoff, pair, start.frac_coords, start.lattice_parameters) for pair in pairs]
    law = site_weights(crystals)
    if rewarded:
        law = law * np.exp(np.array([WORTH[a] + WORTH[b] for a, b in pairs]) / 0.5)
    chains = walk(start, 40, ChainSettings(tau=0.5), allowed_elements(set(WORTH)), worth_of_elements if rewarded else None)
    a = np.asarray(chains.tokens.a)[:, :2]
    counts = np.array([(a == pair).all(1).sum() for pair in pairs])
    assert counts.sum() == N
    assert stats.chisquare(counts, law / law.sum() * N).pvalue > 1e-4


def test_coordinates_follow_the_likelihood():
    """Rutile's x of the anion: Kolmogorov-Smirnov at level 1e-4 against the likelihood on a grid; y stays tied to it."""
    start = rutile()
    settings = ChainSettings(element=0, coordinate=1, exchange=0, width=0.2)
    chains = walk(start, 60, settings, allowed_elements())
    x = np.asarray(chains.tokens.x, float)[:, 1]
    np.testing.assert_allclose(x[:, 0], x[:, 1], atol=1e-6)
    assert (x[:, 2] == 0).all()
    grid = np.linspace(0, 1, 801)
    crystals = [
        sort_sites(136, start.wyckoff, start.elements, [[0, 0, 0], [u, u, 0]], start.lattice_parameters) for u in grid
    ]
    cumulative = np.cumsum(site_weights(crystals))
    assert stats.kstest(x[:, 0], lambda u: np.interp(u, grid, cumulative / cumulative[-1])).pvalue > 1e-4


def test_log_prob_of_a_chain_is_the_likelihood():
    chains = walk(rutile(), 5, ChainSettings(), allowed_elements())
    np.testing.assert_allclose(chains.log_prob, log_prob(POLICY, chains.tokens).total, atol=1e-3)
    assert 0 < int(chains.accepted.sum()) < 5 * N


def test_elements_that_are_not_allowed_are_shed():
    """A start that breaks the constraint on both its sites ends within it, and stays there."""
    chains = walk(rock_salt(), 40, ChainSettings(), allowed_elements({3, 9}))
    assert set(np.unique(np.asarray(chains.tokens.a)[:, :2])) == {3, 9}


def test_mcmc_command(tmp_path):
    save_policy(tmp_path / "p.safetensors", POLICY, {})
    start, out = tmp_path / "t.parquet", tmp_path / "c.parquet"
    columns = {"id": ["salt", "none", "rutile"], **token_columns([rock_salt(), None, rutile()])}
    write_table(start, make_table(TOKENS, columns), {})
    call = [
        "mcmc",
        str(start),
        "--policy",
        str(tmp_path / "p.safetensors"),
        "--steps",
        "20",
        "--every",
        "10",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(cli, [*call, "--elements", "Ti", "O", "Na", "Cl", "--site-elements", "a=Na,Ti"])
    assert result.exit_code == 0, result.output
    table = read_table(out)
    assert table.column("id").to_pylist() == ["salt@10", "rutile@10", "salt@20", "rutile@20", "none@20"]
    assert table.column("status").to_pylist()[-1] == "upstream_failed"
    first = out.read_bytes()
    CliRunner().invoke(cli, [*call, "--elements", "Ti", "O", "Na", "Cl", "--site-elements", "a=Na,Ti"])
    assert out.read_bytes() == first
    refused = CliRunner().invoke(cli, [*call, "--site-elements", "a=X"])
    assert "'X' is not an element symbol" in f"{refused.output} {refused.exception}"


def test_convert_command(tmp_path, root):
    published = root / "tests" / "data" / "synthetic" / "epoch_000001.pkl"
    tokens = root / "tests" / "data" / "synthetic" / "tokens.parquet"
    ours = tmp_path / "p.safetensors"
    result = CliRunner().invoke(cli, ["convert", str(published), "--out", str(ours), "--space-groups-from", str(tokens)])
    assert result.exit_code == 0, result.output
    tables = []
    for policy in (published, ours):
        out = tmp_path / f"{policy.suffix}.parquet"
        scored = CliRunner().invoke(cli, ["log-prob", "--policy", str(policy), str(tokens), "--out", str(out)])
        assert scored.exit_code == 0, scored.output
        tables.append(read_table(out))
    assert tables[0].equals(tables[1])
    sampled = CliRunner().invoke(cli, ["sample", "--policy", str(ours), "--n", "2", "--out", str(tmp_path / "s.parquet")])
    assert sampled.exit_code == 0, sampled.output
