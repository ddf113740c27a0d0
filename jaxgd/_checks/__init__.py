"""The checks of what users pass, before anything compiles."""
