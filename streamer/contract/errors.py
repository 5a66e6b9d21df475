"""The one table of things that go wrong, and the one exception that carries them.

Every failure that a user can cause or mend has a named code here. A code has a sentence for people, a hint
that says what to do, a WebSocket close code (RFC 6455 §7.4; 4xxx are ours) and a process exit code for the
command line. Anything that is not a ``FaceError`` is a bug of ours and surfaces as ``internal``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """What a named error means to a socket (``close``) and to a shell (``exit``)."""

    close: int
    exit: int
    hint: str


CODES: dict[str, Code] = {
    # the handshake
    "hello_expected": Code(1002, 1, "Send a JSON 'hello' as the first message, before any audio."),
    "hello_timeout": Code(1002, 1, "Send the 'hello' within ten seconds of connecting."),
    "unsupported_version": Code(1002, 1, "Speak version 1 and offer the subprotocol diffspeaker.v1."),
    "bad_stream_name": Code(4400, 2, "Use 1 to 64 letters, digits, '.', '_' or '-' in /v1/streams/<name>."),
    "unauthorized": Code(4401, 2, "Send the server's token in the hello's 'token' field."),
    "unknown_stream": Code(4404, 1, "Start the publisher first, or check the stream's name."),
    "stream_taken": Code(4409, 1, "Another publisher holds this name: choose another, or end that one."),
    "at_capacity": Code(1013, 1, "Try again later, or on another server."),
    # messages
    "bad_json": Code(1007, 1, "Text messages are one JSON object each, in UTF-8."),
    "unknown_type": Code(1002, 1, "The message types are listed in PROTOCOL.md."),
    "bad_message": Code(1007, 1, "Compare the message's fields with PROTOCOL.md."),
    "bad_option": Code(
        1008, 2, "Choose a value within what the server's welcome or `diffspeaker info` lists."
    ),
    "not_allowed": Code(1008, 1, "Only a 'publish' or 'converse' role may send this."),
    "message_too_big": Code(1009, 1, "Keep messages under 1 MiB: send audio in chunks of 10 to 500 ms."),
    # audio
    "bad_audio_format": Code(1003, 2, "Use s16 or f32, 8000 to 192000 Hz, 1 or 2 channels."),
    "bad_audio_size": Code(1007, 1, "Send whole samples: the payload is a multiple of bytes × channels."),
    "bad_audio_values": Code(1007, 1, "Samples must be finite numbers; f32 full scale is -1 to 1."),
    "bad_audio_file": Code(1007, 2, "Give a wav, flac, ogg or mp3 file that holds sound."),
    "no_audio_device": Code(1011, 3, "Plug in a microphone, or choose one with --microphone-device."),
    # the machine
    "bad_bundle": Code(1011, 4, "Rebuild the bundle with `python -m export`, or use the one that ships."),
    "port_in_use": Code(1011, 5, "Choose another with --port, or stop what is using it."),
    "bad_config": Code(1008, 2, "See `diffspeaker --help`."),
    "bad_output": Code(1011, 2, "Check that the folder exists and may be written."),
    "inference_failed": Code(1011, 6, "See the server's log; the session has ended."),
    "engine_away": Code(1013, 1, "The machines that compute do not answer: try again in a moment."),
    "shutting_down": Code(1001, 0, "The server is stopping: reconnect in a moment."),
    "internal": Code(1011, 70, "This is a bug in the server: please report it with the server's log."),
}


class FaceError(Exception):
    """A failure with a name.

    Args:
        code: a key of ``CODES``.
        message: one sentence that says what is wrong, with the values seen.
        hint: what to do about it; the code's own hint where none is given.

    Raises:
        KeyError: the code is not in the table.
    """

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        entry = CODES[code]
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = entry.hint if hint is None else hint
        self.close_code = entry.close
        self.exit_code = entry.exit

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"
