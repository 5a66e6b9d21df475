"""Speed and quality, measured: every command prints figures and writes JSON with its provenance."""
