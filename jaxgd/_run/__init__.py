"""A run: what it is told, the state that it is in, and what moves it from one evaluation to the next."""
