"""The model that ships, through exactly the live path: what a person in front of it would notice."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from streamer.core.options import SessionOptions
from streamer.core.session import Session
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.offline import animate

F32 = npt.NDArray[np.float32]
SAMPLE = Path(__file__).resolve().parents[1] / "clients" / "web" / "sample.wav"

# "We are prepared today because of groundwork that was done ten years ago": where its lips must meet and
# where its mouth must open, in seconds, from the corpus's alignment.
CLOSED = {
    "the p of prepared": (0.478, 0.558),
    "its second": (0.618, 0.718),
    "the b of because": (1.378, 1.428),
}
OPEN = {"ay of today": (1.128, 1.378), "ou of ground": (2.018, 2.158), "o of ago": (3.978, 4.268)}


@cache
def bundle() -> Bundle:
    return Bundle.load()


@cache
def backend() -> OnnxBackend:
    return OnnxBackend(bundle())


def face(audio: F32, chunks: Sequence[int] = (), **options: object) -> F32:
    """Coefficients (n, 52) of 16 kHz audio, fed in pieces that end at ``chunks``."""
    chosen = SessionOptions.choose(bundle().manifest, **options)  # type: ignore[arg-type]
    blocks = animate(np.split(audio, list(chunks)), bundle().manifest, backend(), chosen)
    return np.concatenate([block.values for block in blocks])


def channel(motion: F32, name: str) -> F32:
    return motion[:, bundle().manifest.motion.channels.index(name)]


def lip_gap_mm(motion: F32) -> F32:
    with np.load(bundle().folder / bundle().manifest.rig.file, allow_pickle=False) as rig:
        upper, lower = int(rig["upper_lip_mid"]), int(rig["lower_lip_mid"])
    lips = bundle().vertices(motion)[:, [upper, lower], 1]
    return 1000 * (lips[:, 0] - lips[:, 1])


@cache
def sample() -> F32:
    pcm, rate = soundfile.read(SAMPLE, dtype="float32")
    assert rate == 16_000
    return np.asarray(pcm, np.float32)


@cache
def spoken() -> F32:
    return face(sample())


@pytest.mark.parametrize("phone", CLOSED)
def test_the_lips_meet_where_the_sample_says_p_or_b(phone: str) -> None:
    start, stop = (round(30 * t) for t in CLOSED[phone])
    assert lip_gap_mm(spoken())[start - 1 : stop + 2].min() < 1.5


@pytest.mark.parametrize("phone", OPEN)
def test_the_mouth_opens_where_the_sample_says_an_open_vowel(phone: str) -> None:
    start, stop = (round(30 * t) for t in OPEN[phone])
    assert lip_gap_mm(spoken())[start : stop + 1].max() > 4


def test_in_silence_the_mouth_stays_closed_and_the_face_still_blinks() -> None:
    still = face(np.zeros(60 * 16_000, np.float32))
    assert np.percentile(lip_gap_mm(still), 99) < 1.5
    shut = channel(still, "eyeBlinkLeft") > 0.6
    assert 5 <= (shut[1:] & ~shut[:-1]).sum() <= 40
    np.testing.assert_allclose(channel(still, "eyeBlinkLeft"), channel(still, "eyeBlinkRight"), atol=0.2)


def test_steady_noise_is_not_speech() -> None:
    hiss = 0.01 * np.random.default_rng(0).standard_normal(10 * 16_000).astype(np.float32)
    assert np.percentile(lip_gap_mm(face(hiss)), 95) < 2


def test_the_mouth_rests_within_a_fifth_of_a_second_after_speech() -> None:
    tail = np.zeros(16_000, np.float32)
    gap = lip_gap_mm(face(np.concatenate([sample(), tail])))
    assert gap[round(30 * (len(sample()) / 16_000)) :].max() < 1.5


def test_the_last_syllable_of_a_recording_that_stops_dead_is_shown() -> None:
    """Cut in the middle of an open vowel: its frames are all there, up to the last sample."""
    cut = round(16_000 * (OPEN["ay of today"][0] + OPEN["ay of today"][1]) / 2)
    motion = face(sample()[:cut])
    assert len(motion) == bundle().manifest.timing.grid().frames_within(cut)
    assert lip_gap_mm(motion)[-4:].max() > 3


def test_any_chunking_of_the_sample_gives_the_same_frames_bit_for_bit() -> None:
    audio = sample()[: 2 * 16_000]
    whole = face(audio)
    for chunks in (range(160, len(audio), 160), range(333, len(audio), 4_567), [1, 2, 3, 20_000]):
        assert np.array_equal(face(audio, chunks), whole)


def test_a_seed_repeats_and_another_blinks_at_other_times_with_the_same_lips() -> None:
    audio = np.concatenate([sample(), np.zeros(5 * 16_000, np.float32)])
    one, again, other = (face(audio, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    blinks = [channel(m, "eyeBlinkLeft") for m in (one, other)]
    assert np.abs(blinks[0] - blinks[1]).max() > 0.5
    assert np.corrcoef(lip_gap_mm(one), lip_gap_mm(other))[0, 1] > 0.97


def test_styles_change_the_manner_and_not_the_words() -> None:
    neutral = lip_gap_mm(spoken())
    soft, energetic = (face(sample(), style={name: 1.0}) for name in ("soft", "energetic"))
    assert lip_gap_mm(soft).mean() < 0.85 * neutral.mean()
    assert lip_gap_mm(energetic).mean() > 1.1 * neutral.mean()
    assert np.corrcoef(lip_gap_mm(energetic), neutral)[0, 1] > 0.9
    assert channel(face(sample(), style={"cheerful": 1.0}), "mouthSmileLeft").mean() > 0.2


def test_a_longer_lookahead_changes_the_delay_and_keeps_the_time() -> None:
    """Whatever the lookahead, frame i shows second i/30: the curves lie on each other without a shift."""
    near, far = (lip_gap_mm(face(sample(), lookahead_ms=ms)) for ms in (46.7, 313.4))
    shifts = range(-3, 4)
    agreement = [np.corrcoef(np.roll(near, shift)[5:-5], far[5:-5])[0, 1] for shift in shifts]
    assert shifts[int(np.argmax(agreement))] == 0


def test_an_interrupt_closes_the_mouth_within_100_ms() -> None:
    session = Session(bundle().manifest, SessionOptions.choose(bundle().manifest))
    session.feed(sample()[: 16_000 * 2])
    emitted = []
    while (request := session.next_request()) is not None:
        block = session.complete(request, backend().infer([request])[0])
        assert block is not None
        emitted.append(block.values)
        if len(emitted) > 10 and lip_gap_mm(block.values)[-1] > 3:
            break  # the mouth is open
    eased, epoch = session.interrupt()
    assert epoch == 1
    assert len(eased.values) <= 3
    gap = lip_gap_mm(np.concatenate([emitted[-1][-1:], eased.values]))
    assert gap[0] > 3
    assert (np.diff(gap) < 0).all()
    assert gap[-1] < 0.5
