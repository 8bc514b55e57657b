"""The configuration of a run as a whole: every section stands beside what it configures."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crystalformer_rl.comparison.arm_settings import ArmsSettings
from crystalformer_rl.discovery.discovery_settings import EvaluateSettings, JudgeSettings, RankSettings
from crystalformer_rl.finetune.finetune_settings import FinetuneSettings
from crystalformer_rl.policy.constraint_settings import ConstraintSettings
from crystalformer_rl.policy.pretrain_settings import PretrainSettings
from crystalformer_rl.policy.sample_settings import SampleSettings
from crystalformer_rl.potential.relax_settings import RelaxSettings
from crystalformer_rl.recovery.recover_settings import RecoverSettings
from crystalformer_rl.resources.resource_settings import PolicySettings, ResourcesSettings
from crystalformer_rl.rewards.reward_settings import RewardSettings
from crystalformer_rl.scoring.scoring_settings import ScoringSettings
from crystalformer_rl.settings import Section, Seed, Text


class RunSettings(Section):
    """A run of the whole pipeline."""

    seed: Seed = Field(0, description="Seed of all sampling; the same seed gives the same crystals.")
    results: Text = Field("results", description="Folder for everything that the run writes.")
    device: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="`gpu` lets the stages that gain from one use it, one job at a time; `cpu` hides it from them.",
    )
    resources: ResourcesSettings = Field(ResourcesSettings(), description="What the stages read.")
    policy: PolicySettings = Field(PolicySettings(), description="The base policy.")
    pretrain: PretrainSettings = Field(PretrainSettings(), description="Training a base policy.")
    recover: RecoverSettings = Field(RecoverSettings(), description="Structures for pretraining, recovered from energies.")
    constraints: ConstraintSettings = Field(
        ConstraintSettings(), description="What every crystal must be, in fine-tuning as in sampling."
    )
    sample: SampleSettings = Field(SampleSettings(), description="Drawing crystals from a policy.")
    relax: RelaxSettings = Field(RelaxSettings(), description="Relaxation.")
    reward: RewardSettings = Field(RewardSettings(), description="What a sampled crystal earns in fine-tuning.")
    scoring: ScoringSettings = Field(ScoringSettings(), description="How crystals are scored in fine-tuning.")
    finetune: FinetuneSettings = Field(FinetuneSettings(), description="Fine-tuning.")
    arms: ArmsSettings = Field(ArmsSettings(), description="Comparison of ways to fine-tune.")
    judge: JudgeSettings | None = Field(
        JudgeSettings(), description="Who judges the best candidates, and all crystals of arms; null: nobody."
    )
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="The figures of a policy.")
    rank: RankSettings = Field(RankSettings(), description="The table of candidates.")
