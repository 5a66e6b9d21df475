"""One of the processes of ``--processes``: ``python -m streamer.cli.member PORT CHANNEL COMMAND …``.

Started by ``streamer.server.member`` with two open descriptors; nobody else starts it.
"""

from __future__ import annotations

import sys

from streamer.cli import main
from streamer.server.channel import Channel

if __name__ == "__main__":
    port, link, *words = sys.argv[1:]
    sys.exit(main.main(words, Channel(int(port), int(link))))
