"""The names by which a worker with a potential is asked for stages; `stages.answers` holds the functions."""

from __future__ import annotations

RELAX = "crystalformer_rl.stages.answers:relax"
PREDICT = "crystalformer_rl.stages.answers:predict"
RECOMPUTE = "crystalformer_rl.stages.answers:recompute"
