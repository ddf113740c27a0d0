"""The sources of rows, and their order."""
