"""State from events: pure folds, nothing else."""
