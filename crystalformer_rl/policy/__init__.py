"""The generative policy: network, likelihood, cached sampler, checkpoints, pretraining. JAX; never torch."""
