"""Policies in a session: load one, sample it, ask it for likelihoods, fine-tune it on a reward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from crystalformer_rl.config.loading import POLICY_SUFFIXES
from crystalformer_rl.config.messages import validate
from crystalformer_rl.crystal.elements import atomic_number
from crystalformer_rl.crystal.inputs import crystals_table
from crystalformer_rl.crystal.wyckoff import LETTERS
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.front_door.dataframes import dataframe
from crystalformer_rl.front_door.places import located
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.policy import checkpoint
from crystalformer_rl.policy.request import MAX_ATOMS, Request
from crystalformer_rl.policy.space_group_weights import space_group_weights
from crystalformer_rl.policy.transformer import Policy as Network
from crystalformer_rl.rewards.reward_settings import RewardSettings
from crystalformer_rl.stages import finetune as finetune_stage
from crystalformer_rl.stages import log_prob as log_prob_stage
from crystalformer_rl.stages import sample as sample_stage
from crystalformer_rl.stages import tokenize as tokenize_stage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Policy:
    """A generator of crystals. network: its weights; card: how it was made; source: where it came from, in messages."""

    network: Network
    card: dict[str, Any]
    source: str

    def __repr__(self) -> str:
        shape = self.network.shape
        return f"Policy({self.source}: {shape.num_layers} layers, model size {shape.model_size})"

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        offset: int = 0,
        formula: str = "",
        formula_units: Sequence[int] = (),
        max_atoms: int = MAX_ATOMS,
        space_groups: Sequence[int] = (),
        elements: Iterable[str] = (),
        forbidden: Iterable[str] = (),
        wyckoff: Sequence[str] = (),
        site_elements: Mapping[str, Iterable[str]] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        progress: bool = True,
    ) -> pd.DataFrame:
        """`n` crystals: crystal i of a seed depends on the policy, the seed and i alone.

        formula: exactly this reduced formula; formula_units in the conventional cell (any by default), max_atoms in the
        primitive one. space_groups: only these, each alike; by default as often as in training. elements, forbidden: symbols.
        wyckoff: the sites of one space group, such as ["1a", "1b", "3c"]; site_elements: {letter: symbols}. The DataFrame has
        the crystals in their conventional cells (Å), tokens and log-probabilities (nats). Raises InputError for a
        request that no space group can hold.
        """
        request = Request(
            temperature=temperature,
            top_p=top_p,
            elements={atomic_number(symbol) for symbol in elements} or None,
            forbidden={atomic_number(symbol) for symbol in forbidden},
            site_elements={LETTERS.index(k) + 1: {atomic_number(s) for s in v} for k, v in (site_elements or {}).items()},
            wyckoff=tuple(wyckoff),
            formula=formula,
            formula_units=tuple(formula_units),
            max_atoms=max_atoms,
        )
        weights = space_group_weights(self.card, self.source, tuple(space_groups))
        with tqdm(total=n, desc="sample", unit="crystal", disable=not progress, leave=False) as bar:
            found = sample_stage.sample(
                self.network, n, weights, seed=seed, offset=offset, request=request, advance=bar.update
            )
        return dataframe(found.table)

    def log_prob(self, structures: Any) -> pd.DataFrame:
        """Log-probability (nats) of each structure given its space group: letters, coordinates, elements, lattice, sum.

        structures: as everywhere, or a table of tokens or samples.
        """
        table = crystals_table(structures)
        if "wyckoff" not in table.column_names:
            table = tokenize_stage.tokenize(table)
        return dataframe(log_prob_stage.log_prob(table, self.network))

    def save(self, path: str | Path) -> None:
        """Write the policy to a .safetensors file, whole or not at all."""
        checkpoint.save_policy(path, self.network, self.card)


@dataclass(frozen=True)
class Finetuned:
    """policy: the tuned policy; updates: a row an update; crystals: a row for each crystal sampled, with its reward."""

    policy: Policy
    updates: pd.DataFrame
    crystals: pd.DataFrame


def load_policy(source: str | Path = "embedded") -> Policy:
    """A policy: `embedded`, a name in the registry (fetched once), or the path of a .safetensors or published .pkl file."""
    path = located(source, "policy", POLICY_SUFFIXES)
    network, card = checkpoint.load_policy(path)
    return Policy(network, card, str(source))


def finetune(
    policy: Policy,
    *,
    reward: RewardSettings | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    reference: str | Path = "embedded",
    potential: str = "chgnet",
    models: str | Path = "embedded",
    seed: int = 0,
    stable_below: float = STABLE_BELOW,
    progress: bool = True,
    **settings: Any,
) -> Finetuned:
    """Fine-tune a policy on a reward: sample, score as sampled (unrelaxed) by a potential in a worker, update, over and over.

    reward: terms, as the configuration's section `reward` has them; by default crystals earn minus their energy above the
    hull, between −0.1 and 1 eV/atom. settings: those of the section `finetune`, such as algorithm, updates, batch,
    learning_rate; `rounds` of so many updates run one after the other. stable_below: eV/atom above the hull, what imitation
    and the tables call stable. Raises InputError for settings out of bounds, and where potential and reference do not
    belong together.
    """
    import pyarrow as pa

    from crystalformer_rl.scoring.score import open_scoring

    own: FinetuneSettings = validate(FinetuneSettings, {"rounds": 1, **settings}, "finetune")
    known = str(located(reference, "reference"))
    source = None if "space_group_counts" in policy.card else known
    weights = space_group_weights(policy.card, policy.source, own.space_groups, source)
    rounds: list[finetune_stage.Round] = []
    bar = tqdm(total=own.rounds * own.updates, desc="fine-tune", unit="update", disable=not progress, leave=False)

    def told(row: dict[str, Any]) -> None:
        bar.update(1)
        bar.set_postfix_str(f"reward {row['reward_mean']:.3f}, stable {row['stable_fraction']:.0%}, KL {row['kl']:.2f}")

    with bar, open_scoring(_reward(reward), potential, known, str(located(models, "properties")), None) as (score, _):
        for number in range(1, own.rounds + 1):
            state = rounds[-1].state if rounds else None
            rounds.append(
                finetune_stage.finetune(
                    policy.network, own, score, weights, state=state, seed=seed, round_number=number,
                    stable_below=stable_below, report=told,
                )
            )  # fmt: skip
    card = {**policy.card, "space_group_counts": [int(w) for w in weights], "updates": rounds[-1].state.updates}
    updates = dataframe(pa.concat_tables([found.updates for found in rounds]))
    crystals = dataframe(pa.concat_tables([found.rollouts for found in rounds]))
    return Finetuned(Policy(rounds[-1].state.policy, card, f"{policy.source}, fine-tuned"), updates, crystals)


def _reward(given: Any) -> RewardSettings:
    if given is None or isinstance(given, RewardSettings):
        return given or RewardSettings()
    found: RewardSettings = validate(
        RewardSettings, dict(given) if isinstance(given, Mapping) else {"terms": list(given)}, "reward"
    )
    return found
