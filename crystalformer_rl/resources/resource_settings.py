"""What the stages read, and where the base policy comes from."""

from __future__ import annotations

from pydantic import Field

from crystalformer_rl.settings import Section, Text


class ResourcesSettings(Section):
    """What the stages read besides the policy."""

    reference: Text = Field(
        "embedded",
        description="Known crystals and their energies, the basis of hull and novelty: `embedded`, a name in the registry, "
        "or the path of a Parquet file made by `crystalformer-rl reference`.",
    )
    properties: Text = Field(
        "embedded",
        description="Models of band gap and dielectric constants: `embedded`, a name in the registry, or the path of a "
        ".safetensors file made by `crystalformer-rl train-properties`.",
    )
    stability: Text = Field(
        "embedded",
        description="What was learned of a potential's errors against DFT, by which probabilities of being stable are calibrated: "
        "`embedded`, or the path of a .safetensors file. Of another potential than the run's it says nothing.",
    )
    potential: Text = Field(
        "chgnet",
        description="Interatomic potential for energies and relaxation: chgnet, chgnet-r2scan, mace:FILE, "
        "ase:package.module:Class, or the registry name of a checkpoint, such as mace-mpa-0-medium. The reference "
        "must have been computed with the same one, or hold DFT energies on the scale that it learned.",
    )


class PolicySettings(Section):
    """Where the base policy comes from."""

    source: Text = Field(
        "embedded",
        description="`embedded`; `pretrain` (train one on pretrain.data first); the registry name of a published "
        "checkpoint, such as crystalformer-alex20; or the path of a .safetensors or .pkl file.",
    )
