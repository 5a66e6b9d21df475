"""Many recordings side by side: faster than one after another, and not a frame different."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from streamer.contract.errors import FaceError
from streamer.core.options import SessionOptions
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.offline import Clip, animate, animate_together
from tests import fakes

F32 = npt.NDArray[np.float32]
MANIFEST = fakes.manifest()
SECONDS = (0.7, 0.0, 1.5, 0.01, 1.2, 0.4, 1.7)


def clips(manifest=MANIFEST, seconds=SECONDS) -> list[Clip]:
    """Recordings of unlike lengths, chunks, rates, seeds and hops."""
    made: list[Clip] = []
    for number, length in enumerate(seconds):
        rate = (16_000, 44_100)[number % 2]
        options = SessionOptions.choose(
            manifest, sample_rate_hz=rate, seed=number, hop_ms=(33.4, 66.7, 133)[number % 3]
        )
        audio = fakes.speech(length, rate_hz=rate, seed=number)
        made.append((np.array_split(audio, 1 + 3 * number), options))
    return made


def alone(clip: Clip, manifest, backend) -> F32:
    chunks, options = clip
    empty = np.zeros((0, 52), np.float32)
    return np.concatenate([empty, *(b.values for b in animate(chunks, manifest, backend, options))])


def together(made: list[Clip], manifest, backend, at_once: int) -> list[F32]:
    motions = [np.zeros((0, 52), np.float32) for _ in made]
    for number, block in animate_together(made, manifest, backend, at_once):
        assert block.first_frame == len(motions[number])
        motions[number] = np.concatenate([motions[number], block.values])
    return motions


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_side_by_side_each_recording_gets_bit_for_bit_the_frames_it_gets_alone(at_once):
    backend = fakes.FakeBackend(MANIFEST)
    expected = [alone(clip, MANIFEST, backend) for clip in clips()]
    assert [len(motion) for motion in expected] == [round(30 * s + 0.49) for s in SECONDS]
    for motion, wanted in zip(together(clips(), MANIFEST, backend, at_once), expected, strict=True):
        np.testing.assert_array_equal(motion, wanted)


def test_the_windows_of_as_many_recordings_as_allowed_are_denoised_as_one_batch():
    backend = fakes.FakeBackend(MANIFEST)
    together(clips(seconds=(0.6,) * 9), MANIFEST, backend, 3)
    assert max(backend.batches) == 3
    assert len(backend.batches) < sum(backend.batches) / 2


def test_a_recording_is_opened_when_its_turn_comes():
    opened = []

    def recordings():
        for number, clip in enumerate(clips(seconds=(0.5, 0.5, 0.5))):
            opened.append(number)
            yield clip

    running = animate_together(recordings(), MANIFEST, fakes.FakeBackend(MANIFEST), 2)
    next(running)
    assert opened == [0, 1]


def test_what_is_wrong_with_one_recording_is_said():
    bad = ([np.full(100, np.nan, np.float32)], SessionOptions.choose(MANIFEST))
    with pytest.raises(FaceError) as caught:
        list(animate_together([*clips(), bad], MANIFEST, fakes.FakeBackend(MANIFEST)))
    assert caught.value.code == "bad_audio_values"


@pytest.mark.slow
def test_the_model_that_ships_moves_a_batch_as_it_moves_each_alone():
    bundle = Bundle.load()
    made, backend = clips(bundle.manifest, (0.9, 1.4, 0.5)), OnnxBackend(bundle)
    expected = [alone(clip, bundle.manifest, backend) for clip in made]
    for motion, wanted in zip(together(made, bundle.manifest, backend, 3), expected, strict=True):
        np.testing.assert_allclose(motion, wanted, atol=1e-4)
