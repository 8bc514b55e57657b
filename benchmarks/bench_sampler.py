"""Speed of the sampler against the published algorithm, at the published shape, in one process.

The published sampler keeps no keys and values: for each of the 105 tokens it evaluates the whole padded sequence, for
all crystals to the end. Here it runs on the same weights with the same random numbers, so that both must
give the same crystals. The weights are random; the end of a sequence is made so likely that crystals have about four
sites, as those of the pretraining set have (the published algorithm takes the same time whatever the lengths).

    make bench-sampler
    python benchmarks/bench_sampler.py [--batch 16] [--crystals 256] [--policy FILE]

The last line is JSON: `ratio` of seconds a crystal (published algorithm over ours, compilation apart), both of them, batch,
mean sites, peak memory (GB) and `agreement`, the share of crystals that are the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from crystalformer_rl.policy.checkpoint import load_policy
from crystalformer_rl.policy.constraints import Behaviour
from crystalformer_rl.policy.sampler import (
    Run,
    Samples,
    SampleState,
    blank_state,
    choose_token,
    crystal_keys,
    draw_space_groups,
    sample,
)
from crystalformer_rl.policy.shape import PolicyShape
from crystalformer_rl.policy.transformer import TOKENS_PER_SITE, Policy

SPACE_GROUPS = (12, 14, 62, 63, 139, 166, 194, 216, 221, 225)
WEIGHTS = [float(g in SPACE_GROUPS) for g in range(1, 231)]
END_BIAS = -0.5


def published_shape() -> Policy:
    """Random weights at the published shape, whose crystals have about four sites."""
    policy = Policy.init(jax.random.key(0), PolicyShape())
    return eqx.tree_at(lambda p: p.head.b, policy, policy.head.b.at[0].add(END_BIAS))


def uncached(policy: Policy, run: Run) -> SampleState:
    """The published algorithm: the whole padded sequence again for every token."""
    places = policy.shape.n_max

    def write(position: int, state: SampleState) -> SampleState:
        state, _ = choose_token(policy, run, state)
        outputs = policy.outputs(run.g, state.w, state.a, state.x)
        output = outputs.reshape(len(run.g), places * TOKENS_PER_SITE, -1)[:, position]
        return state._replace(position=state.position + 1, output=output)

    blank = blank_state(policy, run.g, run.behaviour, places)._replace(cache=None)
    return jax.lax.fori_loop(0, places * TOKENS_PER_SITE, write, blank)


def time_uncached(policy: Policy, batch: int) -> tuple[float, SampleState]:
    """Seconds a crystal, compilation apart, and the crystals of the first `batch` numbers."""
    numbers = np.arange(batch)
    groups = jnp.asarray(draw_space_groups(0, numbers, WEIGHTS), jnp.int32)
    run = Run(crystal_keys(0, jnp.asarray(numbers)), groups, Behaviour.make(places=policy.shape.n_max))
    compiled = eqx.filter_jit(uncached).lower(policy, run).compile()  # type: ignore[attr-defined]
    begin = time.perf_counter()
    state = jax.block_until_ready(compiled(policy, run))
    return (time.perf_counter() - begin) / batch, state


def time_ours(policy: Policy, crystals: int, batch: int) -> tuple[float, Samples]:
    """Seconds a crystal, compilation apart."""
    behaviour = Behaviour.make(places=policy.shape.n_max)
    sample(policy, 0, range(crystals), WEIGHTS, behaviour, batch_size=batch)
    begin = time.perf_counter()
    drawn = sample(policy, 0, range(crystals), WEIGHTS, behaviour, batch_size=batch)
    return (time.perf_counter() - begin) / crystals, drawn


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=16, help="of the published algorithm; on an accelerator of both")
    parser.add_argument("--crystals", type=int, default=256, help="that ours samples")
    parser.add_argument("--policy", help="weights to take instead of random ones")
    arguments = parser.parse_args()
    policy = load_policy(arguments.policy)[0] if arguments.policy else published_shape()
    ours, drawn = time_ours(policy, arguments.crystals, arguments.batch)
    print(f"ours: {ours * 1e3:.2f} ms a crystal", flush=True)
    theirs, state = time_uncached(policy, arguments.batch)
    first = drawn.tokens.w[: arguments.batch]
    same = (first == np.asarray(state.w)).all(1) & (drawn.tokens.a[: arguments.batch] == np.asarray(state.a)).all(1)
    result = {
        "ratio": round(theirs / ours, 1),
        "seconds_a_crystal": round(ours, 5),
        "published_algorithm_seconds_a_crystal": round(theirs, 4),
        "batch": arguments.batch,
        "crystals": arguments.crystals,
        "shape": policy.shape.to_dict(),
        "mean_sites": round(float((drawn.tokens.w > 0).sum(1).mean()), 2),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "device": jax.devices()[0].device_kind,
        "agreement": float(same.mean()),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
