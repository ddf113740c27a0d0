"""The search for a learning rate before a run."""
