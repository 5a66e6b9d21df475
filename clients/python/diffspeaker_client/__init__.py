"""A small Python client of DiffSpeaker Live: speech goes up, frames of a moving face come down.

::

    speech = AudioFormat("s16", 16000, 1)
    async with connect("ws://127.0.0.1:8600/v1/streams/anna", "converse", audio=speech) as face:
        await face.send_audio(pcm)
        await face.end()
        async for event in face:
            if isinstance(event, Frames):
                show(event.values)

``diffspeaker_client.sync.connect`` does the same without an event loop. The command ``diffspeaker-client``
speaks, watches, and sends a stream on to other programs.
"""

from diffspeaker_client.client import Face, connect
from diffspeaker_client.exchange import Event
from diffspeaker_client.jitter_buffer import JitterBuffer
from streamer.contract.errors import FaceError
from streamer.contract.wire import AudioFormat, Frames, OutputFormat, Passthrough

__all__ = [
    "AudioFormat",
    "Event",
    "Face",
    "FaceError",
    "Frames",
    "JitterBuffer",
    "OutputFormat",
    "Passthrough",
    "connect",
]
