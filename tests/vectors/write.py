"""Writes ``tests/vectors/wire/*.json``: messages of protocol v1 beside everything that they mean.

``python -m tests.vectors.write`` writes them from the Python codec; ``--check`` only says whether they are
what it would write. They are committed, because they, not the codec, are the specification: a change to them
is a change to the protocol. See the README beside them for their form.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.contract import wire

FOLDER = Path(__file__).parent / "wire"


def audio() -> list[dict[str, Any]]:
    """Audio messages: ``pcm`` is interleaved, ``samples`` is what the server hears (mono, float32)."""
    s16, f32 = [0, 1, -1, 16384, -16384, 32767, -32768, 12345], [0.0, 0.5, -0.5, 1.0, -1.0, 0.1, 2.5, -3e38]
    cases = (
        ("s16 mono at 16 kHz", "s16", 16000, 1, s16),
        ("s16 stereo at 48 kHz", "s16", 48000, 2, s16),
        ("f32 mono at 44.1 kHz, two values beyond full scale", "f32", 44100, 1, f32),
        ("f32 stereo at 8 kHz, two values beyond full scale", "f32", 8000, 2, f32),
        ("s16 mono, an odd number of samples", "s16", 192000, 1, [7]),
        ("s16 mono, no samples", "s16", 16000, 1, []),
    )
    written = []
    for name, encoding, rate, channels, values in cases:
        form = wire.AudioFormat(encoding, rate, channels)  # type: ignore[arg-type]
        pcm = np.asarray(values, np.int16 if encoding == "s16" else np.float32)
        message = wire.encode_audio(pcm, form.encoding)
        heard = wire.decode_audio(message, form)
        written.append(
            {"name": name, "audio": plain(form), "pcm": pcm.tolist(), "samples": heard.tolist()}
            | {"bytes": message.hex()}
        )
    return written


def frames() -> list[dict[str, Any]]:
    """Frames messages: ``given`` is encoded, ``raw`` travels, ``values`` is what a client shows."""
    coefficients = np.array([[0, 0.25, 1], [0.1, 0.999, 0.00001]], np.float32)
    vertices = np.array([[0, -0.5, 0.5, 0.123, -0.456, 0.01]], np.float32)
    cases: list[tuple[str, wire.Kind, wire.DType, np.ndarray[Any, Any], int]] = [
        (f"{kind} as {dtype}", kind, dtype, values, 0)
        for kind, values in (("coefficients", coefficients), ("vertices", vertices))
        for dtype in ("f32", "f16", "i16")
    ]  # type: ignore[assignment]
    beyond = np.array([[1.5, -1.5, 1.0]], np.float32)
    cases += [
        ("i16 clips values beyond full scale", "coefficients", "i16", beyond, 0),
        ("eased after an interrupt", "coefficients", "f32", coefficients[:1], wire.FLAG_EASED),
        ("the last of the epoch", "coefficients", "f32", coefficients[:1], wire.FLAG_LAST),
        ("eased and last", "coefficients", "i16", coefficients[:1], wire.FLAG_EASED | wire.FLAG_LAST),
        ("no frames", "coefficients", "f32", coefficients[:0], wire.FLAG_LAST),
        ("i16 of an odd count, so the payload ends unaligned", "vertices", "i16", vertices[:, :3], 0),
    ]
    written = []
    for at, (name, kind, dtype, values, flags) in enumerate(cases):
        first = 3 * at
        given = wire.Frames(values, kind, dtype, flags, at % 3, 40 + at, first, first / 30, 1234.5 + at / 8)
        message = wire.encode_frames(given)
        shown = wire.decode_frames(message)
        raw = np.frombuffer(message, {"f32": "<f4", "f16": "<f2", "i16": "<i2"}[dtype], offset=40)
        fields = {key: getattr(shown, key) for key in Header} | {"scale": wire.scale_of(kind, dtype)}
        fields |= {"count": len(shown.values), "width": shown.values.shape[1]}
        arrays = {"given": values.tolist(), "raw": raw.tolist(), "values": shown.values.tolist()}
        written.append({"name": name} | fields | arrays | {"bytes": message.hex()})
    return written


Header = ("kind", "dtype", "flags", "epoch", "seq", "first_frame", "pts_s", "emit_time_s")


def passthrough() -> list[dict[str, Any]]:
    """Audio passthrough messages."""
    written = []
    for name, samples, epoch, seq, pts_s in (
        ("four samples", [0, 1, -32768, 32767], 0, 0, 0.0),
        ("one sample of a later epoch", [-2], 3, 4294967295, 1066 / 16000),
        ("no samples", [], 1, 2, 0.5),
    ):
        sound = wire.Passthrough(np.asarray(samples, np.int16), epoch, seq, pts_s, 16000)
        fields = {"epoch": epoch, "seq": seq, "pts_s": pts_s, "sample_rate_hz": 16000, "samples": samples}
        written.append({"name": name} | fields | {"bytes": wire.encode_passthrough(sound).hex()})
    return written


def client() -> list[dict[str, Any]]:
    """Every JSON message of a client; ``fields`` states the defaults too."""
    s16 = wire.AudioFormat("s16", 16000, 1)
    return [
        text("hello of a watcher", wire.Hello(1, "watch")),
        text("hello of a publisher", wire.Hello(1, "publish", audio=s16)),
        text(
            "hello with every field",
            wire.Hello(
                1,
                "converse",
                token="räksmörgås 🙂",
                audio=wire.AudioFormat("f32", 48000, 2),
                output=wire.OutputFormat("vertices", "i16"),
                lookahead_ms=80.5,
                hop_ms=66.5,
                style={"neutral": 0.75, "happy": 0.25},
                seed=7,
                audio_passthrough=True,
                paced=True,
                resume="s-1",
            ),
        ),
        text("style", wire.SetStyle({"happy": 1.0})),
        text("interrupt", wire.Interrupt()),
        text("end", wire.End()),
        text("clock", wire.ClockRequest(12.25)),
    ]


def server() -> list[dict[str, Any]]:
    """Every JSON message of a server."""
    welcome = wire.Welcome(
        version=1,
        session="s-1",
        stream="anna",
        role="watch",
        epoch=2,
        bundle="default 1.0.0",
        kind="coefficients",
        dtype="i16",
        width=3,
        scale=wire.scale_of("coefficients", "i16"),
        channels=["eyeBlinkLeft", "jawOpen", "tongueOut"],
        unit="coefficient",
        frame_rate_hz=30,
        sample_rate_hz=16000,
        hop_ms=66.5,
        lookahead_ms=80.25,
        face_delay_ms=160.5,
        styles=["neutral", "happy"],
        style_scales=["intensity", "jaw"],
        style={"neutral": 1.0},
        received_samples=16000,
        server_time_s=1234.5,
    )
    return [
        text("welcome", welcome),
        text("style", wire.StyleEcho({"happy": 1.0}, 2, 66)),
        text("interrupted", wire.Interrupted(3, 69)),
        text("ended", wire.Ended(3, 120, 4.0)),
        text("clock", wire.ClockReply(12.25, 1234.75)),
        text("stats", wire.Stats(4, 1, 300, 12.5)),
        text("error", wire.ErrorMessage("bad_json", "The message is not JSON.", "Send JSON.")),
    ]


def refused() -> list[dict[str, Any]]:
    """Messages that a codec must refuse, each with the error's code; ``reader`` is who receives it."""
    hello = '{"type":"hello","version":1,"role":"watch"'
    s16, f32 = {"encoding": "s16", "sample_rate_hz": 16000}, {"encoding": "f32", "sample_rate_hz": 16000}
    good = bytes.fromhex(frames()[0]["bytes"])
    sound = bytes.fromhex(passthrough()[0]["bytes"])
    head = "01" + "00" * 7
    texts = (
        ("not JSON", "server", "hello?", "bad_json"),
        ("an empty text", "server", "", "bad_json"),
        ("cut short", "server", hello, "bad_json"),
        ("NaN is not JSON", "server", '{"type":"clock","client_time_s":NaN}', "bad_json"),
        ("an array", "server", "[1]", "bad_message"),
        ("no type", "server", '{"version":1}', "bad_message"),
        ("an unknown type", "server", '{"type":"wave"}', "unknown_type"),
        ("a type that is no string", "server", '{"type":7}', "unknown_type"),
        ("the server's own type", "server", '{"type":"welcome"}', "unknown_type"),
        ("an unknown field", "server", hello + ',"colour":"red"}', "bad_message"),
        ("a wrong field type", "server", '{"type":"clock","client_time_s":"now"}', "bad_message"),
        ("a missing field", "server", '{"type":"hello","version":1}', "bad_message"),
        ("an unknown role", "server", '{"type":"hello","version":1,"role":"king"}', "bad_message"),
        ("version 2", "server", '{"type":"hello","version":2,"role":"watch"}', "unsupported_version"),
        (
            "version 2 with fields of its own",
            "server",
            '{"type":"hello","version":2,"gaze":1}',
            "unsupported_version",
        ),
        ("a client's type", "client", '{"type":"hello","version":1,"role":"watch"}', "unknown_type"),
        ("a welcome without its fields", "client", '{"type":"welcome","version":1}', "bad_message"),
        ("not JSON, from the server", "client", "}", "bad_json"),
    )
    bits: tuple[tuple[str, str, dict[str, Any] | None, str, str], ...] = (
        ("audio: no bytes", "server", s16 | {"channels": 1}, "", "bad_message"),
        ("audio: a cut header", "server", s16 | {"channels": 1}, "01000000", "bad_message"),
        (
            "audio: an unknown kind of message",
            "server",
            s16 | {"channels": 1},
            "09" + "00" * 9,
            "bad_message",
        ),
        ("audio: an odd byte count", "server", s16 | {"channels": 1}, head + "000000", "bad_audio_size"),
        ("audio: half a stereo pair", "server", s16 | {"channels": 2}, head + "0000", "bad_audio_size"),
        ("audio: half a float", "server", f32 | {"channels": 1}, head + "0000", "bad_audio_size"),
        ("audio: NaN", "server", f32 | {"channels": 1}, head + "0000c07f", "bad_audio_values"),
        ("audio: infinity", "server", f32 | {"channels": 1}, head + "0000807f", "bad_audio_values"),
        ("frames: a cut header", "client", None, good[:39].hex(), "bad_message"),
        ("frames: one byte short", "client", None, good[:-1].hex(), "bad_message"),
        ("frames: one byte over", "client", None, good.hex() + "00", "bad_message"),
        ("frames: an unknown dtype", "client", None, (good[:1] + b"\x03" + good[2:]).hex(), "bad_message"),
        ("frames: an unknown kind", "client", None, (good[:2] + b"\x02" + good[3:]).hex(), "bad_message"),
        ("passthrough: a cut header", "client", None, sound[:31].hex(), "bad_message"),
        ("passthrough: one byte short", "client", None, sound[:-1].hex(), "bad_message"),
        ("an unknown kind of message", "client", None, "09" + "00" * 39, "bad_message"),
        ("no bytes", "client", None, "", "bad_message"),
    )
    written: list[dict[str, Any]] = [
        {"name": name, "reader": reader, "text": text, "code": code} for name, reader, text, code in texts
    ]
    for name, reader, form, raw, code in bits:
        written.append({"name": name, "reader": reader, "bytes": raw, "code": code})
        if form is not None:
            written[-1]["audio"] = form
    return written


def text(name: str, message: wire.ClientMessage | wire.ServerMessage) -> dict[str, Any]:
    """One JSON message beside all its fields."""
    fields = {"type": message.__struct_config__.tag} | msgspec.to_builtins(msgspec.structs.asdict(message))
    return {"name": name, "text": wire.encode_message(message), "fields": fields}


def plain(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct's fields."""
    return msgspec.structs.asdict(struct)


FILES = {
    "audio": audio,
    "frames": frames,
    "passthrough": passthrough,
    "client": client,
    "server": server,
    "refused": refused,
}


def main(argv: list[str]) -> int:
    """Writes, or with ``--check`` compares; returns the number of files that differ."""
    differing = 0
    for name, make in FILES.items():
        path, content = FOLDER / f"{name}.json", rows(make())
        if "--check" in argv:
            if path.read_text(encoding="utf-8") != content:
                print(f"{path.name} is not what the codec writes", file=sys.stderr)
                differing += 1
        else:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="\n")
    return differing


def rows(vectors: list[dict[str, Any]]) -> str:
    """A JSON array with one vector a line, so that a change to one shows as one line."""
    return "[\n" + ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in vectors) + "\n]\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
