"""What every other room relies on: errors, the sample/frame grid, the bundle's manifest, the wire."""
