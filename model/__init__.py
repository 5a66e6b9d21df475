"""The DiffSpeaker network, its training and its distillation. Needs torch; the server never imports it."""
