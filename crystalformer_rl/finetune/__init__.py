"""Fine-tuning: objectives, the loop of a round and its state. The score is injected; never torch."""
