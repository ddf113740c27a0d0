"""The cost as a run sees it: checked, with its derivatives, a function of the free parameters."""
