"""The session: one speaker's life, from the first sample to the last frame."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from streamer.contract.errors import FaceError
from streamer.core import noise
from streamer.core.options import SessionOptions, parse_style, style_vector
from streamer.core.resampler import Resampler
from streamer.core.session import HIGH_WATER_WINDOWS, Session, State
from tests import fakes

MANIFEST = fakes.manifest()


def start(**choices):
    return Session(MANIFEST, SessionOptions.choose(MANIFEST, **choices)), fakes.FakeBackend(MANIFEST)


def denoise(session, backend, most=None):
    """Answers what is pending, ``most`` requests of it; returns the blocks."""
    blocks = []
    while (most is None or len(blocks) < most) and (request := session.next_request()):
        blocks.append(session.complete(request, backend.infer([request])[0]))
    return blocks


def test_a_session_lives_from_idle_to_closed():
    session, backend = start()
    assert session.state is State.IDLE
    session.feed(fakes.speech(1))
    assert session.state is State.STREAMING
    blocks = denoise(session, backend)
    session.end()
    assert session.state is State.DRAINING and not session.is_drained
    blocks += denoise(session, backend)
    assert session.is_drained
    assert sum(len(block.values) for block in blocks) == session.emitted_frames == 30
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    assert session.audio_s == 1


def test_frames_are_numbered_without_gaps_and_carry_their_time():
    session, backend = start()
    session.feed(fakes.speech(1))
    expected = 0
    for block in denoise(session, backend):
        assert block.first_frame == expected
        assert block.pts_s == expected / 30
        assert block.values.shape[1] == 52 and block.values.dtype == np.float32
        expected += len(block.values)


def test_an_empty_session_ends_without_a_frame():
    session, _ = start()
    session.end()
    assert session.is_drained and session.emitted_frames == 0


def test_one_request_is_out_at_a_time():
    session, backend = start()
    session.feed(fakes.speech(1))
    request = session.next_request()
    assert session.next_request() is None
    session.complete(request, backend.infer([request])[0])
    assert session.next_request() is not None


def test_a_request_holds_what_the_graph_needs():
    session, backend = start(style={"tense": 0.5, "cheerful": 2})
    session.feed(fakes.speech(1))
    denoise(session, backend, most=3)
    request = session.next_request()
    frames = MANIFEST.timing.segment_frames
    assert request.audio.shape == (MANIFEST.timing.window_samples,)
    assert request.noise.shape == request.prefix.shape == (frames, 52)
    assert request.prefix_mask.sum() == MANIFEST.timing.prefix_frames
    np.testing.assert_allclose(request.style, [0, 0.8, 0.2])
    for array in (request.audio, request.noise, request.prefix, request.prefix_mask, request.style):
        assert array.dtype == np.float32


def test_a_requests_noise_is_that_of_its_frames():
    session, backend = start(seed=5)
    session.feed(fakes.speech(1))
    denoise(session, backend, most=2)
    request = session.next_request()
    frames = MANIFEST.timing.segment_frames
    expected = noise.for_frames(5, 0, request.window.first_frame, frames, 52)
    np.testing.assert_array_equal(request.noise, expected)


def test_what_the_model_hears_comes_back_from_feed_and_end():
    session, _ = start(sample_rate_hz=48_000)
    audio = fakes.speech(1, 48_000)
    heard = [session.feed(chunk) for chunk in np.array_split(audio, 7)]
    heard.append(session.end())
    resampler = Resampler(48_000, 16_000)
    expected = np.concatenate([resampler.push(audio), resampler.finish()])
    np.testing.assert_array_equal(np.concatenate(heard), expected)
    assert len(expected) == 16_000


def test_an_answer_to_a_request_that_is_not_out_is_refused():
    session, backend = start()
    session.feed(fakes.speech(1))
    request = session.next_request()
    motion = backend.infer([request])[0]
    session.complete(request, motion)
    with pytest.raises(RuntimeError, match="not out"):
        session.complete(request, motion)


def test_an_answer_of_the_wrong_shape_leaves_the_request_out():
    session, backend = start()
    session.feed(fakes.speech(1))
    request = session.next_request()
    with pytest.raises(ValueError, match="segment"):
        session.complete(request, np.zeros((1, 52), np.float32))
    assert session.complete(request, backend.infer([request])[0]) is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_motion_that_is_not_finite_is_an_error_with_a_name(bad):
    session, backend = start()
    session.feed(fakes.speech(1))
    request = session.next_request()
    motion = backend.infer([request])[0]
    motion[3, 3] = bad
    with pytest.raises(FaceError) as caught:
        session.complete(request, motion)
    assert caught.value.code == "inference_failed"


def test_a_request_that_nobody_answered_is_asked_again_and_nothing_is_lost():
    session, backend = start()
    plain, _ = start()
    blocks = []
    for part in np.array_split(fakes.speech(1), 7):
        session.feed(part)
        plain.feed(part)
        if (request := session.next_request()) is not None:
            session.give_back(request)
            with pytest.raises(RuntimeError, match="not out"):
                session.give_back(request)
        blocks += denoise(session, backend)
    expected = denoise(plain, backend)
    for block, wanted in zip(blocks, expected, strict=True):
        np.testing.assert_array_equal(block.values, wanted.values)


def test_a_request_given_back_can_be_joined_with_newer_ones_and_is_forgotten_after_an_interrupt():
    session, backend = start()
    session.feed(fakes.speech(0.5))
    request = session.next_request()
    first = request.window.emit_start
    session.give_back(request)
    joined = session.next_request(catch_up=True)
    assert joined.window.emit_start == first and joined.window.emit_stop > request.window.emit_stop
    session.interrupt()
    session.give_back(joined)
    assert session.next_request() is None
    session.feed(fakes.speech(0.5))
    assert denoise(session, backend)[0].first_frame == 0


def test_motion_is_clipped_to_what_the_manifest_allows():
    session, backend = start()
    session.feed(fakes.speech(1))
    request = session.next_request()
    motion = backend.infer([request])[0] * 0
    motion[:, 0], motion[:, 1] = -3, 7
    block = session.complete(request, motion)
    assert (block.values[:, 0] == 0).all() and (block.values[:, 1] == 1).all()


# ---- interrupt ----


def test_an_interrupt_eases_the_face_to_rest_within_a_tenth_of_a_second_and_starts_anew():
    session, backend = start()
    session.feed(fakes.speech(1))
    blocks = denoise(session, backend, most=4)
    eased, epoch = session.interrupt()
    assert eased.eased and eased.last and eased.epoch == 0 and epoch == session.epoch == 1
    assert eased.first_frame == blocks[-1].first_frame + 2
    assert 1 <= len(eased.values) <= 3
    assert not eased.values[-1].any()
    assert session.pending_windows == 0 and session.state is State.IDLE
    session.feed(fakes.speech(1))
    block = denoise(session, backend)[0]
    assert (block.epoch, block.first_frame, block.pts_s) == (1, 0, 0)


def test_the_answer_to_an_interrupted_request_is_dropped():
    session, backend = start()
    session.feed(fakes.speech(1))
    request = session.next_request()
    session.interrupt()
    session.feed(fakes.speech(1))
    assert session.next_request() is None
    assert session.complete(request, backend.infer([request])[0]) is None
    assert session.dropped_segments == 1
    assert session.next_request().epoch == 1


def test_an_epoch_after_an_interrupt_owes_nothing_to_the_one_before():
    session, backend = start(sample_rate_hz=48_000)
    session.feed(fakes.speech(0.777, 48_000, seed=1))
    denoise(session, backend, most=2)
    session.interrupt()
    session.feed(fakes.speech(1, 48_000))
    request = session.next_request()
    assert not request.prefix_mask.any()
    fresh, _ = start(sample_rate_hz=48_000)
    fresh.feed(fakes.speech(1, 48_000))
    np.testing.assert_array_equal(request.audio, fresh.next_request().audio)


def test_an_interrupt_while_draining_closes_the_session():
    session, _ = start()
    session.feed(fakes.speech(1))
    session.end()
    eased, _ = session.interrupt()
    assert session.is_drained and not eased.values[-1].any()
    with pytest.raises(RuntimeError):
        session.interrupt()


# ---- illegal calls ----


def test_after_the_end_no_audio_and_no_second_end():
    session, _ = start()
    session.feed(fakes.speech(0.5))
    session.end()
    pending = session.pending_windows
    with pytest.raises(RuntimeError, match="takes no audio"):
        session.feed(fakes.speech(0.1))
    with pytest.raises(RuntimeError, match="ended already"):
        session.end()
    assert session.pending_windows == pending and session.state is State.DRAINING


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_samples_that_are_not_finite_are_refused_and_what_came_before_is_kept(bad):
    session, backend = start()
    session.feed(fakes.speech(1))
    with pytest.raises(FaceError) as caught:
        session.feed(np.array([0, bad], np.float32))
    assert caught.value.code == "bad_audio_values"
    session.end()
    denoise(session, backend)
    assert session.emitted_frames == 30


def test_samples_of_another_type_are_a_mistake_of_the_caller():
    session, _ = start()
    with pytest.raises(ValueError, match="float32"):
        session.feed(np.zeros(10, np.int16))
    assert session.state is State.IDLE


def test_huge_samples_are_clipped_before_they_can_overflow():
    session, _ = start(sample_rate_hz=48_000)
    session.feed(np.tile(np.float32([3e38, -3e38]), 24_000))
    assert np.abs(session.next_request().audio).max() <= 1


# ---- backpressure ----


def test_a_session_says_when_it_has_enough_audio():
    session, backend = start()
    while session.wants_audio:
        session.feed(fakes.speech(0.05))
    assert session.pending_windows >= HIGH_WATER_WINDOWS
    denoise(session, backend, most=2)
    assert session.wants_audio


# ---- catching up ----


def test_catching_up_denoises_the_newest_window_for_the_older_ones_and_loses_no_frame():
    session, backend = start()
    session.feed(fakes.speech(0.5))
    waiting = session.pending_windows
    assert waiting > 4
    request = session.next_request(catch_up=True)
    timing = MANIFEST.timing
    reach = timing.hop.max_frames + timing.lookahead.max_frames - session.options.lookahead_frames
    frames = request.window.emit_stop - request.window.emit_start
    assert request.window.emit_start == 0 and reach - 2 < frames <= reach
    assert session.joined_windows == frames // 2 - 1
    block = session.complete(request, backend.infer([request])[0])
    assert len(block.values) == frames
    session.end()
    rest = denoise(session, backend)
    assert rest[0].first_frame == frames
    assert session.is_drained and session.emitted_frames == 15 and rest[-1].last


def test_catching_up_with_one_window_waiting_changes_nothing():
    audio = fakes.speech(1)
    (one, backend), (other, _) = start(), start()
    for at in range(0, len(audio), 1000):
        for session in (one, other):
            session.feed(audio[at : at + 1000])
        while request := one.next_request(catch_up=True):
            plain = other.next_request()
            assert request.window.emit_start == plain.window.emit_start
            np.testing.assert_array_equal(request.audio, plain.audio)
            np.testing.assert_array_equal(request.prefix, plain.prefix)
            answer = backend.infer([request])[0]
            np.testing.assert_array_equal(
                one.complete(request, answer).values, other.complete(plain, answer).values
            )
    assert one.joined_windows == 0


def test_the_last_window_stays_the_last_when_it_speaks_for_others():
    session, backend = start()
    session.feed(fakes.speech(0.2))
    session.end()
    request = session.next_request(catch_up=True)
    assert request.window.is_last
    assert session.complete(request, backend.infer([request])[0]).last
    assert session.is_drained and session.emitted_frames == 6


# ---- options ----


def test_options_are_the_bundles_defaults_where_nothing_is_asked_for():
    options = SessionOptions.choose(MANIFEST)
    assert (options.hop_frames, options.lookahead_frames, options.sample_rate_hz) == (2, 2, 16_000)
    assert options.style == {"neutral": 1} and options.seed == 0


def test_milliseconds_are_rounded_to_whole_frames():
    options = SessionOptions.choose(MANIFEST, lookahead_ms=120, hop_ms=40)
    assert (options.hop_frames, options.lookahead_frames) == (1, 3)


@pytest.mark.parametrize("choice", ["lookahead_ms", "hop_ms"])
@pytest.mark.parametrize("value", [-1, 1e9, math.nan, math.inf])
def test_milliseconds_beyond_the_bundles_range_are_refused_with_the_range(choice, value):
    with pytest.raises(FaceError, match="this bundle allows") as caught:
        SessionOptions.choose(MANIFEST, **{choice: value})
    assert caught.value.code == "bad_option"


@pytest.mark.parametrize("rate_hz", [0, -16_000, 10_000_000])
def test_a_sample_rate_beyond_reason_is_refused(rate_hz):
    with pytest.raises(FaceError) as caught:
        SessionOptions.choose(MANIFEST, sample_rate_hz=rate_hz)
    assert caught.value.code == "bad_audio_format"


def test_the_delay_is_lookahead_hop_and_resampler():
    assert start()[0].delay_s == pytest.approx(0.080 + 2 / 30)
    assert 0 < start(sample_rate_hz=48_000)[0].delay_s - start()[0].delay_s < 0.010


# ---- style ----


def test_a_style_is_a_vector_in_the_bundles_order():
    np.testing.assert_array_equal(style_vector({"tense": 0.25}, MANIFEST), [0, 0, 1])


@pytest.mark.parametrize(
    "weights", [{}, {"angry": 1}, {"tense": -0.1}, {"tense": math.nan}, {"tense": math.inf}, {"tense": 0}]
)
def test_a_bad_style_is_refused_and_the_old_one_stays(weights):
    session, _ = start(style={"tense": 1})
    with pytest.raises(FaceError) as caught:
        session.set_style(weights)
    assert caught.value.code == "bad_option"
    assert session.style == {"tense": 1}


def test_a_new_style_holds_from_the_next_request_on():
    session, _ = start()
    session.feed(fakes.speech(1))
    first = session.next_request()
    assert session.set_style({"cheerful": 1}) == first.window.emit_stop
    np.testing.assert_array_equal(first.style, [1, 0, 0])
    session.complete(first, np.zeros_like(first.noise))
    np.testing.assert_array_equal(session.next_request().style, [0, 1, 0])


def test_styles_can_be_written_as_text():
    assert parse_style("tense") == {"tense": 1}
    assert parse_style("tense=0.5, cheerful = 2") == {"tense": 0.5, "cheerful": 2}
    for text in ("tense=much", "tense,tense=1"):
        with pytest.raises(FaceError):
            parse_style(text)


def test_styles_are_mixed_in_proportion_and_scales_are_factors_around_one():
    manifest = msgspec.structs.replace(fakes.manifest(), style_scales=["jaw", "lips"])
    np.testing.assert_array_equal(style_vector({"neutral": 3, "tense": 1}, manifest), [0.75, 0, 0.25, 0, 0])
    np.testing.assert_allclose(style_vector({"tense": 1e-300, "jaw": 1.5}, manifest), [0, 0, 1, 0.5, 0])
    np.testing.assert_allclose(style_vector({"lips": 0.25}, manifest), [1, 0, 0, 0, -0.75])
    for refused in ({}, {"tense": 0}, {"jaw": 2.1}, {"jaw": -0.1}, {"jaw": float("nan")}, {"lisp": 1}):
        with pytest.raises(FaceError) as caught:
            style_vector(refused, manifest)
        assert caught.value.code == "bad_option"
