"""Profiles of a cost: its minimum over all other parameters, as a function of one or two that are held."""
