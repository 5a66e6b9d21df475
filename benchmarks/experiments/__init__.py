"""Three questions that the DiffSpeaker paper leaves open, one command each: docs/experiments.md."""
