"""The bridge's protocols, read back by programs that we did not write, and by their published grammars."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
import pytest
from diffspeaker_client.adjust import Adjust, parse_gains, parse_only
from diffspeaker_client.bridge import ifacialmocap
from diffspeaker_client.bridge.encoder import Instant
from diffspeaker_client.bridge.expressions import VRM0, expressions
from diffspeaker_client.bridge.ifacialmocap import GREETING, IFacialMocap, name_of, version_asked
from diffspeaker_client.bridge.livelink import LiveLink
from diffspeaker_client.channels import ARKIT, channels_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamer.contract.errors import FaceError
from streamer.engine.animation.expressions import PRESETS, presets
from tests import fakes

pythonosc = pytest.importorskip("pythonosc", reason="python-osc is in the extra `dev`")
pylivelinkface = pytest.importorskip("pylivelinkface", reason="PyLiveLinkFace is in the extra `dev`")

ALL = np.ones(len(ARKIT), bool)
NOON = Instant(elapsed_s=12.5, day_s=43_200.51, fps=30)
coefficients = arrays.arrays(np.float32, len(ARKIT), elements=st.floats(0, 1, width=32), fill=st.nothing())


def face(**named: float) -> fakes.F32:
    """A face at rest but for these channels, float32 (52,)."""
    values = np.zeros(len(ARKIT), np.float32)
    for name, value in named.items():
        values[ARKIT.index(name)] = value
    return values


# ---- VRM 0.x's expressions ----


@given(coefficients)
def test_expressions_are_those_that_are_written_into_files(values: fakes.F32) -> None:
    written = dict(zip(PRESETS, presets(values[None], ARKIT)[0], strict=True))
    same = {"A": "aa", "I": "ih", "U": "ou", "E": "ee", "O": "oh"}
    same |= {"Blink": "blink", "Blink_L": "blinkLeft", "Blink_R": "blinkRight"}
    sent = expressions(values, ALL)
    assert tuple(sent) == VRM0
    for name, weight in sent.items():
        assert weight == pytest.approx(written[same[name]], abs=1e-5)
        assert 0 <= weight <= 1
    assert sum(sent[name] for name in "AIUEO") <= 1 + 1e-6


@pytest.mark.parametrize(
    ("mouth", "vowel"),
    [
        ({"jawOpen": 0.85}, "A"),
        ({"jawOpen": 0.4, "mouthStretchLeft": 0.44, "mouthStretchRight": 0.44}, "I"),
        ({"jawOpen": 0.15, "mouthPucker": 0.9}, "U"),
        ({"jawOpen": 0.48, "mouthFunnel": 0.84}, "O"),
        ({"jawOpen": 0.71, "mouthDimpleLeft": 0.22, "mouthDimpleRight": 0.22}, "E"),
    ],
)
def test_a_mouth_is_the_vowel_that_it_says(mouth: dict[str, float], vowel: str) -> None:
    weights = expressions(face(**mouth), ALL)
    assert max(weights, key=lambda name: weights[name]) == vowel
    assert weights[vowel] > 0.9


def test_a_closed_mouth_a_smile_and_lips_that_meet_are_no_vowel() -> None:
    smile = face(mouthSmileLeft=1, mouthSmileRight=1)
    meeting = face(jawOpen=0.3, mouthClose=0.3)
    for values in (face(), smile, meeting):
        assert not any(expressions(values, ALL)[name] for name in "AIUEO")


def test_blinks_are_shared_first_so_that_they_never_add_up_twice() -> None:
    weights = expressions(face(eyeBlinkLeft=1, eyeBlinkRight=0.25), ALL)
    assert (weights["Blink"], weights["Blink_L"], weights["Blink_R"]) == (0.25, 0.75, 0)


def test_what_is_not_driven_is_not_named() -> None:
    mouth = Adjust(ARKIT, only=["mouth"]).driven
    assert tuple(expressions(face(eyeBlinkLeft=1), mouth)) == ("A", "I", "U", "E", "O")
    eyes = Adjust(ARKIT, only=["eyes"]).driven
    assert tuple(expressions(face(jawOpen=1), eyes)) == ("Blink", "Blink_L", "Blink_R")


# ---- what reaches the avatar ----


def test_values_are_found_by_name_whatever_the_streams_order() -> None:
    channels = ["jawOpen", "something else", "browInnerUp"]
    adjust = Adjust(channels)
    np.testing.assert_array_equal(
        adjust.apply(np.array([0.5, 0.9, 0.25], np.float32)), face(jawOpen=0.5, browInnerUp=0.25)
    )
    assert [ARKIT[place] for place in np.flatnonzero(adjust.driven)] == ["jawOpen", "browInnerUp"]


def test_only_the_mouth_leaves_the_rest_at_rest_and_undriven() -> None:
    adjust = Adjust(ARKIT, only=["mouth"])
    sent = adjust.apply(np.ones(len(ARKIT), np.float32))
    assert {ARKIT[place] for place in np.flatnonzero(adjust.driven)} == set(channels_of("mouth"))
    np.testing.assert_array_equal(sent, adjust.driven.astype(np.float32))


def test_gains_multiply_a_regions_and_a_channels_and_stay_within_1() -> None:
    gains = parse_gains(["mouth=0.5", "jawOpen=1.5", "browInnerUp=4", "tongueOut=0"])
    sent = Adjust(ARKIT, gains=gains).apply(face(jawOpen=0.8, mouthPucker=0.8, browInnerUp=0.5, tongueOut=1))
    expected = face(jawOpen=0.6, mouthPucker=0.4, browInnerUp=1, tongueOut=0)
    np.testing.assert_allclose(sent, expected, rtol=1e-6)


def test_a_mirror_swaps_the_sides_before_names_mean_anything_else() -> None:
    adjust = Adjust(ARKIT, mirror=True, only=["eyeBlinkRight", "jawLeft", "jawOpen"], gains={"jawLeft": 0.5})
    sent = adjust.apply(face(eyeBlinkLeft=1, jawRight=0.5, jawLeft=1, jawOpen=0.25))
    np.testing.assert_array_equal(sent, face(eyeBlinkRight=1, jawLeft=0.25, jawOpen=0.25))


@pytest.mark.parametrize(
    ("parse", "sentence"),
    [
        (lambda: parse_gains(["jawOpn=1.2"]), "Did you mean jawOpen"),
        (lambda: parse_gains(["jawOpen"]), "NAME=FACTOR"),
        (lambda: parse_gains(["jawOpen=loud"]), "'jawOpen=loud'"),
        (lambda: parse_gains(["jawOpen=5"]), "0 to 4"),
        (lambda: parse_gains(["jawOpen=nan"]), "0 to 4"),
        (lambda: parse_only("moth"), "Did you mean mouth"),
        (lambda: parse_only(" ,"), "names nothing"),
        (lambda: parse_only("xyzzy"), "jawOpen"),
    ],
)
def test_a_name_or_factor_that_is_wrong_is_told_with_what_is_right(parse: Any, sentence: str) -> None:
    with pytest.raises(FaceError, match=re.escape(sentence)) as told:
        parse()
    assert told.value.exit_code == 2


# ---- VMC, read by python-osc ----


def messages(datagram: bytes) -> list[tuple[str, list[Any]]]:
    """The one bundle's messages, in order."""
    from pythonosc.osc_bundle import OscBundle

    assert OscBundle.dgram_is_bundle(datagram)
    return [(message.address, list(message.params)) for message in OscBundle(datagram)]


def blends(datagram: bytes) -> dict[str, float]:
    listed = [params for address, params in messages(datagram) if address == "/VMC/Ext/Blend/Val"]
    assert len({name for name, _ in listed}) == len(listed)
    return {name: value for name, value in listed}


def vmc(**choices: Any) -> Any:
    from diffspeaker_client.bridge.vmc import Vmc

    return Vmc(**choices)


def test_a_vmc_bundle_says_ok_and_the_time_then_every_shape_then_apply() -> None:
    datagram = vmc().encode(face(jawOpen=0.425), ALL, NOON)
    told = messages(datagram)
    assert told[:2] == [("/VMC/Ext/OK", [1]), ("/VMC/Ext/T", [12.5])]
    assert told[-1] == ("/VMC/Ext/Blend/Apply", [])
    assert [params[0] for _, params in told[2:-1]] == list(VRM0)
    assert blends(datagram)["A"] == pytest.approx(0.5)


@given(coefficients)
def test_arkits_names_travel_as_they_are_with_every_bit_of_their_values(values: fakes.F32) -> None:
    sent = blends(vmc(names="arkit").encode(values, ALL, NOON))
    assert list(sent) == list(ARKIT)
    np.testing.assert_array_equal(np.array(list(sent.values()), np.float32), values)


def test_both_names_are_vrms_and_then_arkits() -> None:
    assert list(blends(vmc(names="both").encode(face(), ALL, NOON))) == [*VRM0, *ARKIT]


def test_vmc_does_not_name_what_a_camera_drives() -> None:
    mouth = Adjust(ARKIT, only=["mouth"]).driven
    assert list(blends(vmc(names="both").encode(face(), mouth, NOON))) == [*"AIUEO", *channels_of("mouth")]


def test_gains_of_vrm_names_stay_within_1() -> None:
    sent = blends(vmc(gains={"A": 1.5, "Blink": 0.5}).encode(face(jawOpen=0.68, eyeBlinkLeft=0), ALL, NOON))
    assert sent["A"] == 1 and sent["Blink"] == 0


def test_a_bundle_is_laid_out_as_osc_1_0_says() -> None:
    lids = Adjust(["eyeBlinkLeft", "eyeBlinkRight"]).driven
    parts = [
        b"/VMC/Ext/OK\0,i\0\0\0\0\0\1",
        b"/VMC/Ext/T\0\0,f\0\0" + struct.pack(">f", 12.5),
        b"/VMC/Ext/Blend/Val\0\0,sf\0Blink\0\0\0" + struct.pack(">f", 0.5),
        b"/VMC/Ext/Blend/Val\0\0,sf\0Blink_L\0" + struct.pack(">f", 0.25),
        b"/VMC/Ext/Blend/Val\0\0,sf\0Blink_R\0" + struct.pack(">f", 0.0),
        b"/VMC/Ext/Blend/Apply\0\0\0\0,\0\0\0",
    ]
    expected = b"#bundle\0" + struct.pack(">Q", 1)  # at once
    expected += b"".join(struct.pack(">i", len(part)) + part for part in parts)
    assert vmc().encode(face(eyeBlinkLeft=0.75, eyeBlinkRight=0.5), lids, NOON) == expected


# ---- Live Link Face, read by PyLiveLinkFace ----


@given(coefficients)
def test_live_link_is_read_with_every_bit_of_its_values(values: fakes.F32) -> None:
    found, read = pylivelinkface.PyLiveLinkFace.decode(LiveLink("anna").encode(values, ALL, NOON))
    assert found and read.name == "anna" and read.fps == 30 and read._version == 6
    named = {shape.name: read.get_blendshape(shape) for shape in pylivelinkface.FaceBlendShape}
    assert len(named) == 61
    for name, value in zip(ARKIT, values, strict=True):
        assert named[name[0].upper() + name[1:]] == value
    assert not any(value for name, value in named.items() if name.endswith(("Yaw", "Pitch", "Roll")))


def test_a_live_link_packet_is_laid_out_as_unreal_reads_it() -> None:
    packet = LiveLink("ann·a", machine="here").encode(face(tongueOut=0.5), ALL, NOON)
    version, device_bytes = struct.unpack_from(">Bi", packet)
    assert (version, device_bytes) == (6, 36)
    device = packet[5:41].decode()
    assert re.fullmatch(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}", device)
    (name_bytes,) = struct.unpack_from(">i", packet, 41)
    assert name_bytes == 6 and packet[45:51].decode() == "ann·a"  # bytes, not letters
    frame, part, rate, divisor, count = struct.unpack_from(">ifiiB", packet, 51)
    assert (rate, divisor, count) == (30, 1, 61)
    assert frame + part == pytest.approx(NOON.day_s * 30, abs=1 / 32) and 0 <= part < 1
    values = struct.unpack_from(">61f", packet, 68)
    assert len(packet) == 68 + 61 * 4
    assert values[ARKIT.index("tongueOut")] == 0.5 and sum(values) == 0.5


def test_a_device_is_the_same_each_time_and_another_for_another_machine_or_subject() -> None:
    def device(subject: str, machine: str) -> bytes:
        return LiveLink(subject, machine).encode(face(), ALL, NOON)[5:41]

    assert device("a", "x") == device("a", "x")
    assert len({device("a", "x"), device("a", "y"), device("b", "x")}) == 3


@pytest.mark.parametrize("day_s", [0.0, 0.999999, 86_399.9999999, 3600.0333333])
@pytest.mark.parametrize("fps", [30, 60, 240])
def test_the_part_of_a_frame_never_rounds_up_to_a_whole_one(day_s: float, fps: int) -> None:
    packet = LiveLink("a").encode(face(), ALL, Instant(0, day_s, fps))
    frame, part = struct.unpack_from(">if", packet, 46)
    assert frame == int(day_s * fps) and 0 <= part < 1


@pytest.mark.parametrize("subject", ["", "x" * 256, "ß" * 128])
def test_a_subject_that_unreal_would_not_read_is_refused(subject: str) -> None:
    with pytest.raises(FaceError, match="--subject"):
        LiveLink(subject)


# ---- iFacialMocap, by its published grammar ----

_NUMBER = r"-?\d+(?:\.\d+)?"
_SHAPE = re.compile(r"([a-z][A-Za-z]*(?:_[LR])?)([-&])(\d{1,3})\Z")
_HEAD = re.compile(rf"=head#({_NUMBER}(?:,{_NUMBER}){{5}})\Z")
_EYE = re.compile(rf"(rightEye|leftEye)#({_NUMBER}(?:,{_NUMBER}){{2}})\Z")


def read_text(datagram: bytes, separator: str = "&") -> tuple[dict[str, int], dict[str, list[float]]]:
    """Shapes and bones of a text; whatever is not in the grammar fails.

    text = shape "|" { shape "|" } head "|" rightEye "|" leftEye "|"; see ifacialmocap.com/for-developer.
    """
    *parts, last = datagram.decode("ascii").split("|")
    assert last == "" and len(parts) > 3
    shapes: dict[str, int] = {}
    for part in parts[:-3]:
        shape = _SHAPE.match(part)
        assert shape is not None and shape[2] == separator, part
        assert shape[1] not in shapes and int(shape[3]) <= 100
        shapes[shape[1]] = int(shape[3])
    head = _HEAD.match(parts[-3])
    assert head is not None
    bones = {"head": [float(number) for number in head[1].split(",")]}
    for part, bone in zip(parts[-2:], ("rightEye", "leftEye"), strict=True):
        eye = _EYE.match(part)
        assert eye is not None and eye[1] == bone
        bones[bone] = [float(number) for number in eye[2].split(",")]
    return shapes, bones


# The names in the page's sample of what a phone sends: with a side, and without.
PAIRS = """eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp eyeSquint eyeWide browDown browOuterUp
cheekSquint noseSneer mouthSmile mouthFrown mouthDimple mouthStretch mouthPress mouthLowerDown mouthUpperUp"""
SINGLES = """jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight
mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper browInnerUp cheekPuff tongueOut"""
PUBLISHED = [f"{pair}_{side}" for pair in PAIRS.split() for side in "LR"] + SINGLES.split()


def test_the_names_are_those_of_the_published_sample() -> None:
    assert sorted(name_of(channel) for channel in ARKIT) == sorted(PUBLISHED)


@given(coefficients)
def test_the_text_is_in_the_grammar_and_says_whole_percents(values: fakes.F32) -> None:
    shapes, bones = read_text(IFacialMocap().encode(values, ALL, NOON))
    assert list(shapes) == [name_of(channel) for channel in ARKIT]
    np.testing.assert_allclose(list(shapes.values()), 100 * values, atol=0.501)
    assert bones["head"] == [0] * 6


def test_what_is_not_driven_is_sent_as_0_because_a_phone_sends_everything() -> None:
    mouth = Adjust(ARKIT, only=["mouth"])
    shapes, _ = read_text(IFacialMocap().encode(mouth.apply(np.ones(52, np.float32)), mouth.driven, NOON))
    assert len(shapes) == 52 and shapes["jawOpen"] == 100 and shapes["browInnerUp"] == 0


def test_eyes_turn_as_they_do_in_the_published_sample() -> None:
    looking = face(eyeLookDownLeft=0.17, eyeLookDownRight=0.17, eyeLookInRight=0.06, eyeLookInLeft=0.04)
    _, bones = read_text(IFacialMocap().encode(looking, ALL, NOON))
    # There: rightEye 6.03, 2.44 and leftEye 6.03, −1.67 degrees; a percent is 0.4 of them.
    np.testing.assert_allclose(bones["rightEye"][:2], [6.03, 2.44], atol=0.25)
    np.testing.assert_allclose(bones["leftEye"][:2], [6.03, -1.67], atol=0.25)
    up_and_left = face(eyeLookUpLeft=0.5, eyeLookUpRight=0.5, eyeLookOutLeft=0.5, eyeLookInRight=0.5)
    _, bones = read_text(IFacialMocap().encode(up_and_left, ALL, NOON))
    assert bones["leftEye"] == bones["rightEye"] == [-17.5, 20.0, 0.0]


def test_the_first_version_has_a_hyphen_where_the_second_has_an_ampersand() -> None:
    shapes, _ = read_text(IFacialMocap(1).encode(face(jawOpen=0.43), ALL, NOON), "-")
    assert shapes["jawOpen"] == 43


def test_a_greeting_asks_for_a_version_and_anything_else_is_no_greeting() -> None:
    assert version_asked(GREETING) == 1
    assert version_asked(GREETING + b"|sendDataVersion=v2") == 2
    assert version_asked(b"hello") is None and version_asked(b"") is None


def test_no_datagram_is_longer_than_a_receivers_buffer() -> None:
    wide = np.ones(52, np.float32)
    assert len(vmc(names="both").encode(wide, ALL, NOON)) < 4096
    assert len(IFacialMocap().encode(wide, ALL, NOON)) < 1472  # one Ethernet packet
    assert len(LiveLink("x" * 255).encode(wide, ALL, NOON)) < 774  # as long as Unreal reads
    assert ifacialmocap.PORT == 49983
