"""Policies in a session: load one, sample it, ask it for likelihoods, fine-tune it on a reward."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import Field
from tqdm import tqdm

from crystalformer_rl.config.loading import POLICY_SUFFIXES
from crystalformer_rl.config.messages import validate
from crystalformer_rl.crystal.elements import atomic_number
from crystalformer_rl.crystal.wyckoff import LETTERS
from crystalformer_rl.errors import InputError
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.front_door.dataframes import dataframe
from crystalformer_rl.front_door.places import located
from crystalformer_rl.front_door.workers import worker
from crystalformer_rl.hull.stability import STABLE_BELOW
from crystalformer_rl.policy import checkpoint
from crystalformer_rl.policy.constraint_settings import ConstraintSettings
from crystalformer_rl.policy.request import Request
from crystalformer_rl.policy.space_group_weights import space_group_weights
from crystalformer_rl.policy.transformer import Policy as Network
from crystalformer_rl.reading.objects import crystals_table, given_table
from crystalformer_rl.rewards.reward_settings import RewardSettings
from crystalformer_rl.scoring.scorer import score_by
from crystalformer_rl.scoring.wanted import accepts
from crystalformer_rl.settings import Integer, Number, Positive, Section, Seed
from crystalformer_rl.stages import finetune as finetune_stage
from crystalformer_rl.stages import log_prob as log_prob_stage
from crystalformer_rl.stages import sample as sample_stage
from crystalformer_rl.stages import tokenize as tokenize_stage
from crystalformer_rl.tables.crystal_columns import TOKENS

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
        max_atoms: int | None = None,
        space_groups: Sequence[int] = (),
        elements: Iterable[str] = (),
        forbidden: Iterable[str] = (),
        require: Iterable[str] = (),
        min_elements: int = 1,
        charge_balanced: bool = False,
        wyckoff: Sequence[str] = (),
        site_elements: Mapping[str, Iterable[str]] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        progress: bool = True,
    ) -> pd.DataFrame:
        """`n` crystals: crystal i of a seed depends on the policy, the seed and i alone.

        formula: exactly this reduced formula; formula_units in the conventional cell (any by default), max_atoms in the
        primitive one (any, with a formula 40). space_groups: only these, each alike; by default as often as in training. elements, forbidden: symbols;
        require: held by every crystal; min_elements: different ones; charge_balanced: known oxidation states add up to zero. Crystals are drawn
        again until they meet these three.
        wyckoff: the sites of one space group, such as ["1a", "1b", "3c"]; site_elements: {letter: symbols}. temperature: below 1
        more of the likely; top_p: letters and elements from the likeliest that hold this much. The DataFrame has the crystals
        in their conventional cells (Å), tokens and log-probabilities (nats). Raises InputError for values out of bounds, and
        for a request that no space group can hold.
        """
        given = {"n": n, "seed": seed, "offset": offset, "formula_units": list(formula_units), "max_atoms": max_atoms}
        asked: _Asked = validate(_Asked, {**given, "temperature": temperature, "top_p": top_p}, "sample")
        request = Request(
            temperature=asked.temperature,
            top_p=asked.top_p,
            elements=_numbers(elements) or None,
            forbidden=_numbers(forbidden),
            site_elements={_letter(name): _numbers(symbols) for name, symbols in (site_elements or {}).items()},
            wyckoff=tuple(wyckoff),
            formula=formula,
            formula_units=tuple(asked.formula_units),
            max_atoms=asked.max_atoms,
        )
        wanted: ConstraintSettings = validate(
            ConstraintSettings,
            {"require": _symbols(require), "min_elements": min_elements, "charge_balanced": charge_balanced},
            "sample",
        )
        weights = space_group_weights(self.card, self.source, tuple(space_groups))
        with tqdm(total=asked.n, desc="sample", unit="crystal", disable=not progress, leave=False) as bar:
            found = sample_stage.sample(
                self.network, asked.n, weights, seed=asked.seed, offset=asked.offset, request=request,
                accepts=accepts(wanted), advance=bar.update,
            )  # fmt: skip
        return dataframe(found.table)

    def log_prob(self, structures: Any) -> pd.DataFrame:
        """Log-probability (nats) of each structure given its space group: letters, coordinates, elements, lattice, sum.

        structures: as everywhere, or a table of tokens. Tokens that a table brings are taken, so that samples have the
        log-probability with which they were drawn; for other crystals the symmetry is searched at 0.01 Å. A crystal that
        the policy's places cannot hold has a status and nulls.
        """
        table = given_table(structures)
        if table is None or not _has_tokens(table):
            table = crystals_table(structures)
        if not _has_tokens(table):
            table = tokenize_stage.tokenize(table)
        return dataframe(log_prob_stage.log_prob(table, self.network))

    def save(self, path: str | Path) -> None:
        """Write the policy to a .safetensors file, whole or not at all."""
        checkpoint.save_policy(path, self.network, self.card)


class _Asked(Section):
    """Numbers of a request, with their bounds."""

    n: Integer = Field(ge=1)
    seed: Seed
    offset: Integer = Field(ge=0)
    formula_units: list[Annotated[Integer, Field(ge=1)]]
    max_atoms: Integer | None = Field(ge=1)
    temperature: Positive
    top_p: Number = Field(gt=0, le=1)


def _numbers(symbols: str | Iterable[str]) -> set[int]:
    """Atomic numbers of symbols; a text such as `Na, Cl` is several."""
    return {atomic_number(name) for name in _symbols(symbols)}


def _symbols(given: str | Iterable[str]) -> list[str]:
    return re.findall(r"[^\s,]+", given) if isinstance(given, str) else list(given)


def _letter(name: str) -> int:
    """A Wyckoff letter, 1 = a."""
    if len(name) != 1 or name not in LETTERS:
        raise InputError(f"'{name}' is not a Wyckoff letter; write one from a to z, or A.")
    return LETTERS.index(name) + 1


def _has_tokens(table: pa.Table) -> bool:
    return {column.name for column in TOKENS} <= {*table.column_names}


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
    constraints: Mapping[str, Any] | None = None,
    stable_below: float = STABLE_BELOW,
    progress: bool = True,
    **settings: Any,
) -> Finetuned:
    """Fine-tune a policy on a reward: sample, score as sampled (unrelaxed) by a potential in a worker, update, over and over.

    reward: terms, as the configuration's section `reward` has them; by default crystals earn by being stable, and more if they
    are new. constraints: what every crystal must be, as the section `constraints` has it. settings: those of the section `finetune`, such as algorithm, updates, batch,
    learning_rate; `rounds` of so many updates run one after the other. The KL term counts from `policy`: a policy that was fine-tuned and is
    given again is a new base, so ask for more rounds instead. stable_below: eV/atom above the hull, what imitation
    and the tables call stable. The session's worker scores, so that a potential is loaded once. Raises InputError for
    settings out of bounds, and where potential and reference do not belong together.
    """
    own: FinetuneSettings = validate(FinetuneSettings, {"rounds": 1, **settings}, "finetune")
    wanted: ConstraintSettings = validate(ConstraintSettings, dict(constraints or {}), "constraints")
    known = str(located(reference, "reference"))
    source = None if "space_group_counts" in policy.card else known
    weights = space_group_weights(policy.card, policy.source, wanted.space_groups, source)
    rounds: list[finetune_stage.Round] = []
    score = score_by(worker(potential), _reward(reward), known, str(located(models, "properties")), ahead=own.leads)
    bar = tqdm(total=own.rounds * own.updates, desc="fine-tune", unit="update", disable=not progress, leave=False)

    def told(row: dict[str, Any]) -> None:
        bar.update(1)
        bar.set_postfix_str(f"reward {row['reward_mean']:.3f}, stable {row['stable_fraction']:.0%}, KL {row['kl']:.2f}")

    with bar:
        for number in range(1, own.rounds + 1):
            state = rounds[-1].state if rounds else None
            rounds.append(
                finetune_stage.finetune(
                    policy.network, own, score, weights, state=state, seed=seed, round_number=number,
                    constraints=wanted, knows=score.knows, stable_below=stable_below, report=told,
                )
            )  # fmt: skip
    card = {**policy.card, "space_group_counts": [int(w) for w in weights], "updates": rounds[-1].state.updates}
    updates = dataframe(pa.concat_tables([found.updates for found in rounds]))
    crystals = dataframe(pa.concat_tables([found.rollouts for found in rounds]))
    return Finetuned(Policy(rounds[-1].policy, card, f"{policy.source}, fine-tuned"), updates, crystals)


def _reward(given: Any) -> RewardSettings:
    if given is None or isinstance(given, RewardSettings):
        return given or RewardSettings()
    found: RewardSettings = validate(
        RewardSettings, dict(given) if isinstance(given, Mapping) else {"terms": list(given)}, "reward"
    )
    return found
