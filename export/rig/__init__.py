"""Builds the default face: `python -m export.rig` (see `__main__.py` for the order of the steps)."""
