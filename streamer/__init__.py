"""DiffSpeaker Live's server: live speech in, a moving 3D face out. See docs/architecture.md."""
