"""Retrieved or discovered: what ways of spending evaluations find of what the policy had seen, and what beyond it."""
