"""How a base policy is trained."""

from __future__ import annotations

from pydantic import Field

from crystalformer_rl.settings import Integer, Number, Section, Seed, Text


class ShapeSettings(Section):
    """Size of the network; the names are those of the published configuration files."""

    num_layers: Integer = Field(4, ge=1, le=128, description="Transformer blocks.")
    num_heads: Integer = Field(4, ge=1, le=256, description="Attention heads.")
    key_size: Integer = Field(32, ge=2, le=1024, multiple_of=2, description="Size of a head's queries and keys; even.")
    model_size: Integer = Field(128, ge=1, le=8192, description="Width of the residual stream.")
    embed_size: Integer = Field(32, ge=1, le=4096, description="Size of the embeddings of space group, letter and element.")
    h0_size: Integer = Field(128, ge=1, le=8192, description="Hidden width of the head of the first Wyckoff letter.")
    Nf: Integer = Field(5, ge=1, le=64, description="Frequencies of the embedding of a coordinate.")
    Kx: Integer = Field(16, ge=1, le=256, description="Components of the mixture of a coordinate.")
    Kl: Integer = Field(4, ge=1, le=64, description="Components of the mixture of the lattice.")
    n_max: Integer = Field(21, ge=2, le=256, description="Places of a sequence, one of which is its end.")
    widening: Integer = Field(4, ge=1, le=64, description="Width of a block's perceptron in units of model_size.")

    relatives: Integer = Field(
        16,
        ge=0,
        le=1024,
        description="Size of the keys by which Wyckoff positions of like site symmetry share what they learn, as like space groups and like elements do then; "
        "0: nothing is shared, as in the published network.",
    )


class TrainingSettings(Section):
    """How a base policy is trained."""

    epochs: Integer = Field(50, ge=1, le=100_000, description="Passes over the crystals at most; they fix the decay.")
    minutes: Number = Field(0.0, ge=0, le=100_000, description="Time limit, minutes; 0 means none.")
    batch_size: Integer = Field(64, ge=1, le=100_000, description="Crystals in a step.")
    learning_rate: Number = Field(1e-3, gt=0, le=1, description="Largest step size of AdamW.")
    dropout: Number = Field(0.1, ge=0, lt=1, description="Fraction of activations dropped.")
    warmup_steps: Integer = Field(300, ge=1, le=1_000_000, description="Steps of linear warm-up; at most a tenth of all.")
    weight_decay: Number = Field(0.01, ge=0, le=10, description="Decay of weight matrices, a step and learning rate.")
    augmentation: Number = Field(
        0.0, ge=0, le=1, description="Chance that a crystal is shown with another origin or other axes of its space group."
    )
    gradient_clip: Number = Field(1.0, gt=0, le=1000, description="Largest norm of the gradient.")
    average_decay: Number = Field(0.999, ge=0, lt=1, description="Decay of the average of the weights, a step.")
    patience: Integer = Field(
        10, ge=1, le=100_000, description="Epochs without a better held-out likelihood that end training."
    )
    mixed_precision: Integer = Field(
        1, ge=0, le=1, description="1: an accelerator multiplies matrices in bfloat16; a CPU always takes float32."
    )
    seed: Seed | None = Field(None, description="Seed of weights and order; null takes the run's, which is 0 by default.")


class PretrainFile(Section):
    """What the command `pretrain` reads: size and training of one policy."""

    shape: ShapeSettings = Field(ShapeSettings(), description="Size of the network.")
    training: TrainingSettings = Field(TrainingSettings(), description="How it is trained.")


class PretrainSettings(Section):
    """Training a base policy; used only where policy.source is `pretrain`."""

    data: Text = Field(
        "mp20-train",
        description="Crystals to train on: a name in the registry or the path of a crystals table, CSV or "
        "folder of CIF files.",
    )
    shape: ShapeSettings = Field(ShapeSettings(), description="Size of the network.")
    training: TrainingSettings = Field(TrainingSettings(), description="How it is trained.")
