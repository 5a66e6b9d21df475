"""The Python codec against the golden vectors, and against anything at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.contract import wire
from streamer.contract.errors import CODES, FaceError
from tests.vectors import write

WIRE = Path(__file__).parent / "vectors" / "wire"


def vectors(name: str) -> Any:
    loaded = json.loads((WIRE / f"{name}.json").read_text(encoding="utf-8"))
    return pytest.mark.parametrize("vector", loaded, ids=[vector["name"] for vector in loaded])


def test_the_committed_vectors_are_what_the_codec_writes() -> None:
    assert write.main(["--check"]) == 0


# ---- golden vectors ----


@vectors("audio")
def test_audio_is_heard_as_stated(vector: dict[str, Any]) -> None:
    form = msgspec.convert(vector["audio"], wire.AudioFormat)
    message = bytes.fromhex(vector["bytes"])
    heard = wire.decode_audio(message, form)
    assert heard.dtype == np.float32
    assert heard.tolist() == vector["samples"]
    pcm = np.asarray(vector["pcm"], np.int16 if form.encoding == "s16" else np.float32)
    assert wire.encode_audio(pcm, form.encoding) == message


@vectors("frames")
def test_frames_mean_what_is_stated_and_encode_to_the_same_bytes(vector: dict[str, Any]) -> None:
    message = bytes.fromhex(vector["bytes"])
    frames = wire.decode_frames(message)
    for key in write.Header:
        assert getattr(frames, key) == vector[key], key
    assert frames.values.dtype == np.float32
    assert frames.values.shape == (vector["count"], vector["width"])
    assert frames.values.tolist() == vector["values"]
    assert wire.scale_of(frames.kind, frames.dtype) == vector["scale"]
    assert wire.encode_frames(frames) == message
    given_values = np.asarray(vector["given"], np.float32).reshape(vector["count"], vector["width"])
    assert wire.encode_frames(dataclasses.replace(frames, values=given_values)) == message


@vectors("passthrough")
def test_passthrough_means_what_is_stated_and_encodes_to_the_same_bytes(vector: dict[str, Any]) -> None:
    message = bytes.fromhex(vector["bytes"])
    audio = wire.decode_passthrough(message)
    assert audio.samples.dtype == np.int16
    assert audio.samples.tolist() == vector["samples"]
    for key in ("epoch", "seq", "pts_s", "sample_rate_hz"):
        assert getattr(audio, key) == vector[key], key
    assert wire.encode_passthrough(audio) == message


@vectors("client")
def test_client_messages_mean_what_is_stated_and_encode_to_the_same_text(vector: dict[str, Any]) -> None:
    message = wire.decode_client_message(vector["text"])
    assert fields_of(message) == vector["fields"]
    assert json.loads(wire.encode_message(message)) == json.loads(vector["text"])


@vectors("server")
def test_server_messages_mean_what_is_stated_and_encode_to_the_same_text(vector: dict[str, Any]) -> None:
    message = wire.decode_server_message(vector["text"])
    assert fields_of(message) == vector["fields"]
    assert json.loads(wire.encode_message(message)) == json.loads(vector["text"])


@vectors("refused")
def test_refused_messages_get_their_named_error(vector: dict[str, Any]) -> None:
    with pytest.raises(FaceError) as refusal:
        read(vector)
    assert refusal.value.code == vector["code"]
    assert refusal.value.message.endswith(".")
    assert refusal.value.hint


def read(vector: dict[str, Any]) -> Any:
    if "text" in vector:
        decode = wire.decode_client_message if vector["reader"] == "server" else wire.decode_server_message
        return decode(vector["text"])
    message = bytes.fromhex(vector["bytes"])
    if vector["reader"] == "server":
        return wire.decode_audio(message, msgspec.convert(vector["audio"], wire.AudioFormat))
    return wire.decode_media(message)


def fields_of(message: Any) -> Any:
    return {"type": message.__struct_config__.tag} | msgspec.to_builtins(msgspec.structs.asdict(message))


# ---- anything at all ----

anything = st.one_of(
    st.binary(max_size=400),
    st.builds(
        lambda head, rest: bytes([head]) + rest,
        st.sampled_from([1, 2, 3]),
        st.binary(min_size=7, max_size=120),
    ),
)
formats = st.builds(
    wire.AudioFormat, st.sampled_from(["s16", "f32"]), st.integers(8000, 192000), st.sampled_from([1, 2])
)


@given(anything, formats)
def test_any_bytes_are_audio_or_a_named_error(message: bytes, form: wire.AudioFormat) -> None:
    try:
        heard = wire.decode_audio(message, form)
    except FaceError as error:
        assert error.code in CODES
    else:
        assert np.isfinite(heard).all()
        assert np.abs(heard).max(initial=0) <= 1


@given(anything)
def test_any_bytes_are_media_or_a_named_error(message: bytes) -> None:
    try:
        wire.decode_media(message)
    except FaceError as error:
        assert error.code == "bad_message"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
types = st.sampled_from(["hello", "style", "interrupt", "end", "clock", "welcome", "stats", "wave"])
fields = st.sampled_from(["version", "role", "audio", "output", "style", "seed", "client_time_s", "hop_ms"])
near_misses = st.builds(
    lambda kind, rest: json.dumps({"type": kind} | rest),
    types | json_values,
    st.dictionaries(fields, json_values, max_size=3),
)


@given(st.one_of(st.text(), st.binary(), near_misses))
def test_any_text_is_a_message_or_a_named_error(text: str | bytes) -> None:
    for decode in (wire.decode_client_message, wire.decode_server_message):
        try:
            message = decode(text)
        except FaceError as error:
            assert error.code in CODES
        else:
            assert decode(wire.encode_message(message)) == message


def test_deep_nesting_and_endless_numbers_are_named_errors() -> None:
    for text in ("[" * 100_000, '{"type":"clock","client_time_s":' + "9" * 5000 + "}", "\ud800"):
        with pytest.raises(FaceError):
            wire.decode_client_message(text)


# ---- round trips ----

u32 = st.integers(0, 2**32 - 1)
seconds = st.floats(0, 1e9)
unit = st.floats(0, 1, width=16)


@given(
    st.sampled_from(["coefficients", "vertices"]),
    st.sampled_from(["f32", "f16", "i16"]),
    st.lists(st.tuples(unit, unit, unit), max_size=4),
    st.tuples(st.integers(0, 255), u32, u32, u32),
    st.tuples(seconds, seconds),
)
def test_frames_survive_the_wire_within_their_quantisation(
    kind: wire.Kind, dtype: wire.DType, rows: list[tuple[float, ...]], header: Any, times: Any
) -> None:
    values = np.asarray(rows, np.float32).reshape(len(rows), 3)
    if kind == "vertices":
        values = values - np.float32(0.5)
    sent = wire.Frames(values, kind, dtype, *header, *times)
    message = wire.encode_frames(sent)
    got = wire.decode_frames(message)
    tolerance = {"f32": 0, "f16": 5e-4, "i16": wire.scale_of(kind, "i16") * 0.51}[dtype]
    np.testing.assert_allclose(got.values, values, rtol=0, atol=tolerance)
    assert (got.flags, got.epoch, got.seq, got.first_frame, got.pts_s, got.emit_time_s) == (*header, *times)
    assert wire.encode_frames(got) == message


@given(st.lists(st.integers(-32768, 32767), max_size=50), u32, u32, seconds, u32)
def test_passthrough_survives_the_wire(
    samples: list[int], epoch: int, seq: int, pts_s: float, rate: int
) -> None:
    sent = wire.Passthrough(np.asarray(samples, np.int16), epoch, seq, pts_s, rate)
    got = wire.decode_passthrough(wire.encode_passthrough(sent))
    assert got.samples.tolist() == samples
    assert (got.epoch, got.seq, got.pts_s, got.sample_rate_hz) == (epoch, seq, pts_s, rate)


@pytest.mark.parametrize(
    ("rate", "channels"), [(0, 1), (-1, 1), (7999, 1), (1_000_000, 1), (16000, 0), (16000, 3)]
)
def test_an_audio_format_out_of_range_is_refused(rate: int, channels: int) -> None:
    with pytest.raises(FaceError) as refusal:
        wire.check_audio_format(wire.AudioFormat("s16", rate, channels))
    assert refusal.value.code == "bad_audio_format"


def test_payloads_begin_where_a_browser_can_view_them() -> None:
    frames = wire.Frames(np.zeros((1, 3), np.float32), "coefficients", "f32", 0, 0, 0, 0, 0.0, 0.0)
    sound = wire.Passthrough(np.zeros(4, np.int16), 0, 0, 0.0, 16000)
    assert (len(wire.encode_frames(frames)) - 12) % 8 == 0
    assert (len(wire.encode_passthrough(sound)) - 8) % 8 == 0
    assert (len(wire.encode_audio(np.zeros(4, np.int16), "s16")) - 8) % 8 == 0
