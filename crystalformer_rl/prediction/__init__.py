"""Crystal structure prediction of a formula: candidates of a policy and of known prototypes, and which of them are worth relaxing."""
