"""``diffspeaker-client``: one file per command."""
