"""Builds speech with phone times out of packages: ``python -m model.corpus``; see ``__main__.py``."""
