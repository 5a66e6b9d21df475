"""The keystone: frames are a function of the audio, not of how it was delivered. Bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.options import SessionOptions
from streamer.core.resampler import Resampler
from streamer.core.session import Session
from streamer.engine import offline
from tests import fakes

MANIFEST = fakes.manifest()
RATES_HZ = (16_000, 44_100, 48_000, 8_000)

# How the audio arrives: chunk sizes in thousandths of the clip, and whether the engine answers after each.
deliveries = st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=14)


def frames_of(audio, delivery, **choices):
    """Frames of a clip that arrives as ``delivery`` says; the rest of it comes in one last chunk."""
    session = Session(MANIFEST, SessionOptions.choose(MANIFEST, **choices))
    backend, blocks, start = fakes.FakeBackend(MANIFEST), [], 0

    def answer():
        while request := session.next_request():
            blocks.append(session.complete(request, backend.infer([request])[0]))

    for thousandths, engine_is_quick in delivery:
        size = len(audio) * thousandths // 1000
        session.feed(audio[start : start + size])
        start = min(len(audio), start + size)
        if engine_is_quick:
            answer()
    session.feed(audio[start:])
    answer()
    session.end()
    answer()
    assert session.is_drained
    return np.concatenate([block.values for block in blocks])


@settings(max_examples=40, deadline=None)
@given(
    delivery=deliveries,
    rate_hz=st.sampled_from(RATES_HZ),
    lookahead_ms=st.sampled_from([14, 80, 310]),
    hop_ms=st.sampled_from([33, 67, 133]),
    seed=st.integers(0, 3),
)
def test_any_chunking_of_the_same_audio_gives_identical_frames(delivery, rate_hz, lookahead_ms, hop_ms, seed):
    audio = fakes.speech(0.9, rate_hz, seed)
    choices = {"sample_rate_hz": rate_hz, "lookahead_ms": lookahead_ms, "hop_ms": hop_ms, "seed": seed}
    whole, chunked = frames_of(audio, [], **choices), frames_of(audio, delivery, **choices)
    assert len(whole) == 27
    assert whole.tobytes() == chunked.tobytes()


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_twenty_millisecond_chunks_equal_the_whole(rate_hz):
    audio = fakes.speech(2, rate_hz)
    live = frames_of(audio, [(10, True)] * 99, sample_rate_hz=rate_hz)
    assert live.tobytes() == frames_of(audio, [], sample_rate_hz=rate_hz).tobytes()


def test_a_file_gives_what_the_live_path_gives():
    audio = fakes.speech(1.3)
    blocks = offline.animate(
        np.array_split(audio, 7), MANIFEST, fakes.FakeBackend(MANIFEST), SessionOptions.choose(MANIFEST)
    )
    assert np.concatenate([block.values for block in blocks]).tobytes() == frames_of(audio, []).tobytes()


def test_the_fake_depends_on_all_that_a_model_depends_on():
    audio = fakes.speech(1)
    base = frames_of(audio, [])
    assert not np.array_equal(base, frames_of(fakes.speech(1, seed=9), []))
    assert not np.array_equal(base, frames_of(audio, [], seed=1))
    assert not np.array_equal(base, frames_of(audio, [], style={"tense": 0.5}))
    bare = fakes.manifest(prefix=0)
    session = Session(bare, SessionOptions.choose(bare))
    session.feed(audio)
    backend, blocks = fakes.FakeBackend(bare), []
    while request := session.next_request():
        blocks.append(session.complete(request, backend.infer([request])[0]))
    unprefixed = np.concatenate([block.values for block in blocks])
    assert not np.array_equal(base[: len(unprefixed)], unprefixed)


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(0, 20_000), rate_hz=st.sampled_from(RATES_HZ))
def test_a_clip_has_as_many_frames_as_its_time_holds(samples, rate_hz):
    session = Session(MANIFEST, SessionOptions.choose(MANIFEST, sample_rate_hz=rate_hz))
    session.feed(np.zeros(samples, np.float32))
    session.end()
    while request := session.next_request():
        session.complete(request, request.noise)
    assert session.emitted_frames == session.grid.frames_within(-(-samples * 16_000 // rate_hz))
    assert session.is_drained


# ---- the resampler ----


def resampled(audio, rate_hz, sizes=()):
    resampler, pieces, start = Resampler(rate_hz, 16_000), [], 0
    for size in sizes:
        pieces.append(resampler.push(audio[start : start + size]))
        start += size
    return np.concatenate([*pieces, resampler.push(audio[start:]), resampler.finish()])


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3000), max_size=12),
    rate_hz=st.sampled_from([8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 16_001]),
)
def test_resampling_does_not_depend_on_the_chunks(sizes, rate_hz):
    audio = fakes.speech(0.3, rate_hz)
    assert resampled(audio, rate_hz, sizes).tobytes() == resampled(audio, rate_hz).tobytes()


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 12_345, 22_050, 44_100, 48_000, 192_000])
def test_resampling_in_blocks_equals_resampling_the_whole(rate_hz):
    audio = fakes.speech(1.01, rate_hz)
    blocks, whole = resampled(audio, rate_hz), soxr.resample(audio, rate_hz, 16_000, quality="HQ")
    assert len(blocks) == -(-len(audio) * 16_000 // rate_hz)
    shared = min(len(blocks), len(whole))
    # White noise up to the very edge of the band is the hardest case there is.
    assert np.abs(blocks[:shared] - whole[:shared]).max() < 1e-3 * np.abs(whole).max()


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000])
def test_resampling_shifts_nothing_in_time(rate_hz):
    tone = np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(resampled(tone, rate_hz)[500:-500], expected[500:-500], atol=1e-3)


@pytest.mark.parametrize(("rate_hz", "most_ms"), [(8_000, 14), (22_050, 10), (44_100, 10), (48_000, 10)])
def test_resampling_holds_back_a_few_milliseconds_and_no_more_than_it_says(rate_hz, most_ms):
    resampler, fed, made = Resampler(rate_hz, 16_000), 0, 0
    assert resampler.delay_s * 1000 < most_ms
    for _ in range(300):
        fed += 40
        made += len(resampler.push(np.zeros(40, np.float32)))
        assert fed / rate_hz - made / 16_000 <= resampler.delay_s + 1e-9


def test_equal_rates_pass_through_untouched():
    audio = fakes.speech(0.5)
    assert resampled(audio, 16_000, [100, 7]).tobytes() == audio.tobytes()
    assert Resampler(16_000, 16_000).delay_s == 0


def test_a_reset_resampler_remembers_nothing():
    resampler = Resampler(48_000, 16_000)
    resampler.push(np.ones(5_000, np.float32))
    resampler.reset()
    audio = fakes.speech(0.2, 48_000)
    again = np.concatenate([resampler.push(audio), resampler.finish()])
    assert again.tobytes() == resampled(audio, 48_000).tobytes()
