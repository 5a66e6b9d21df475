"""Protocol v1's codec: bytes in, values out, and back. PROTOCOL.md is the specification in words.

Control messages (``wire_messages``) are JSON text, media (``wire_media``) is binary; this module is the one
name that everybody imports. Nothing here knows of sockets or time.
"""

from streamer.contract.wire_media import *  # noqa: F403
from streamer.contract.wire_messages import *  # noqa: F403
