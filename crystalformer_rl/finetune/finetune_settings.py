"""How a policy is fine-tuned."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, model_validator

from crystalformer_rl.finetune.objective_registry import NAMES, known_objective
from crystalformer_rl.settings import Integer, Number, Positive, Section, Text


class FinetuneSettings(Section):
    """Policy optimization towards crystals that earn more."""

    rounds: Integer = Field(4, ge=1, le=300, description="Rounds; each is one job that goes on from the one before.")
    updates: Integer = Field(5, ge=1, le=100_000, description="Policy updates in a round.")
    batch: Integer = Field(512, ge=2, le=1_000_000, description="Crystals sampled and scored for each update.")
    unscored: Integer = Field(
        256,
        ge=0,
        le=1_000_000,
        description="Crystals sampled beside them and not scored: what they are worth the critic estimates (balance).",
    )
    archive: Integer = Field(
        40_000, ge=1, le=10_000_000, description="Crystals, the last that were drawn, that are learned from again (balance)."
    )
    keep: Literal["chemistry", "space_group"] = Field(
        "chemistry",
        description="What crystals compete within (balance): chemistry, one family of compounds (oxides, halides, chalcogenides, "
        "intermetallics, others) in one space group, so that the shares of families stay; space_group, all of one space group.",
    )
    density_temperature: Number = Field(
        0.02,
        ge=1e-4,
        le=10,
        description="Temperature of coordinates and lattices about where the policy takes them to be, of the rollouts and of the fine-tuned "
        "policy; 1 leaves them as trained. It changes no kind of crystal, only how exactly it is drawn.",
    )
    learns: Literal["choices", "everything"] = Field(
        "choices",
        description="What the objective acts on: choices, Wyckoff letters and elements, while coordinates and lattices are held as they are; "
        "or everything, as published, which wants density_temperature 1.",
    )
    follows_forces: StrictBool = Field(
        True,
        description="Where choices are learned: lead coordinates and lattices a step along the potential's forces and stresses, instead of holding them; forces take "
        "longer than an energy alone (balance).",
    )
    algorithm: Annotated[Text, AfterValidator(known_objective)] = Field(
        "balance",
        description="Objective: balance, regression on the log-probabilities of the optimum, over every crystal drawn lately; ppo, the "
        "clipped surrogate; grpo, the same on normalized advantages with the KL "
        "term in the loss; rloo, the plain policy gradient; dpo, preferences between pairs of a minibatch in one space group; "
        "sft, imitation of the batch's own stable crystals; none, sampling and scoring alone; or one that an installed package "
        "registers.",
        examples=[*NAMES],
    )
    baseline: Literal["space_group", "moving_average", "leave_one_out", "batch_space_group"] = Field(
        "space_group",
        description="What an advantage counts from: the decayed mean of the crystal's space group; the decayed mean of all "
        "batches, as published; the mean of the batch's other crystals; or that of those in the same space group.",
    )
    learning_rate: Number = Field(
        1.5e-4,
        gt=0,
        le=1,
        description="Step size of Adam. 1e-4, the published one, suits all weights; 0.01 suits last_norm.",
    )
    average: Number = Field(
        0.95,
        ge=0,
        lt=1,
        description="Decay, per step, of the average of the weights that the fine-tuned policy is; 0 takes the last weights. Averaging takes out "
        "the noise of the last steps.",
    )
    learning_rate_half_life: Positive | None = Field(
        None,
        description="Updates in which the step size falls to half, so that a policy comes to rest; null keeps the size.",
    )
    steps: Literal["absolute", "relative"] = Field(
        "absolute",
        description="absolute: Adam's steps, as published; relative: those times the size of the weights in each array.",
    )
    trainable: Literal["all", "norms_and_biases", "last_norm"] = Field(
        "all",
        description="Weights that move: all; norms_and_biases of every layer; or last_norm, with the output's biases. "
        "The fewer crystals are scored, the fewer weights should move.",
    )
    clip: Number = Field(0.2, gt=0, lt=1, description="Probability ratios are clipped to 1 ± this (ppo, grpo).")
    inner_epochs: Integer = Field(2, ge=1, le=1000, description="Passes over the crystals of an update.")
    minibatches: Integer = Field(
        6,
        ge=1,
        le=1000,
        description="Steps of Adam in a pass, each on its share of the crystals; for balance with as many older ones.",
    )
    tau: Number = Field(
        0.1,
        ge=0,
        le=1000,
        description="Weight of the KL divergence from the base policy, in units of the reward a nat; the goal is p_base exp(reward/τ)/Z.",
    )
    kl_target: Positive | None = Field(
        None, description="KL divergence, nats, that τ is adapted to from update to update; null keeps τ."
    )
    entropy: Number = Field(0.0, ge=0, le=1000, description="Weight of the policy's entropy, in units of the reward a nat.")
    repeats: Number = Field(
        0.0,
        ge=0,
        le=1000,
        description="Penalty on crystals whose composition, space group and Wyckoff letters came before, in units of the reward: "
        "ln(1 + n) of it after n such crystals, so that kinds are kept apart.",
    )
    repeats_memory: Integer = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Crystals, the last before a batch, among which its repeats are counted, besides those in it. Many tell rare kinds from very rare ones; few "
        "answer sooner, which keeps a policy from swinging between the best kinds and all others.",
    )
    replay: Integer = Field(
        0, ge=0, le=100_000, description="Best crystals so far, each kind once, that are kept for replay."
    )
    replay_weight: Number = Field(
        0.1,
        ge=0,
        le=1000,
        description="Weight of imitating the replayed crystals in the loss (a quarter of a minibatch a step).",
    )
    baseline_decay: Number = Field(
        0.95, ge=0, lt=1, description="Decay, per update, of the baselines that remember (space_group, moving_average)."
    )
    temperature: Number = Field(1.0, gt=0, le=10, description="Temperature of sampling; part of all log-probabilities.")
    placebo: StrictBool = Field(
        False,
        description="Learn from rewards shuffled among the crystals of each space group, and from no forces: what fine-tuning does where scores say "
        "nothing. Tables show the crystals' own rewards.",
    )

    @property
    def leads(self) -> bool:
        """Whether the step that forces and stresses suggest is learned from."""
        return self.follows_forces and self.learns == "choices" and self.algorithm == "balance" and not self.placebo

    @model_validator(mode="after")
    def _tau_means_something(self) -> Self:
        if self.tau == 0 and (self.kl_target is not None or self.algorithm in ("dpo", "balance")):
            why = "the reward is divided by it" if self.kl_target is None else "it is adapted from its value"
            raise ValueError(f"'tau' is 0, but {why}; give one above 0")
        return self

    @model_validator(mode="after")
    def _placebo_knows_nothing(self) -> Self:
        if self.placebo and (self.algorithm == "sft" or self.replay):
            raise ValueError("'placebo' shuffles rewards, which imitation (sft, replay) does not learn from; leave one out")
        return self
