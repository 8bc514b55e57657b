"""Sampled crystals → figures, from a worker process with PyTorch → rewards, in the process with JAX."""
