"""The parts of a report on a fit that has not begun: each looks for one kind of reason why it may go wrong."""
