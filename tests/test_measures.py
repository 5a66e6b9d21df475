"""The measures measure what they say: each against a case whose answer is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import measures
from model.measures import CONTRASTS, Face, Phone
from model.shape import CHANNELS
from streamer.engine.bundle import Bundle

F32 = npt.NDArray[np.float32]
FPS = 30


@cache
def face() -> Face:
    bundle = Bundle.load()
    with np.load(bundle.folder / bundle.manifest.rig.file, allow_pickle=False) as rig:
        return Face({name: rig[name] for name in rig.files if rig[name].dtype.kind in "fiu"})


def motion(frames: int, **channels: F32 | float) -> F32:
    made = np.zeros((frames, len(CHANNELS)), np.float32)
    for name, value in channels.items():
        made[:, CHANNELS.index(name)] = value
    return made


def smooth(frames: int, seed: int = 0) -> F32:
    """A curve in [0, 1] that turns a few times a second."""
    rough = np.random.default_rng(seed).random(frames + 20)
    curve = np.convolve(rough, np.hanning(9) / np.hanning(9).sum(), "same")[10:-10]
    return ((curve - curve.min()) / np.ptp(curve)).astype(np.float32)


# ---- phones told apart ----


def test_auc_is_the_chance_that_a_positive_scores_above_a_negative_and_ties_count_half() -> None:
    random = np.random.default_rng(0)
    positive, negative = random.integers(2, 9, 40) / 1.0, random.integers(0, 7, 60) / 1.0
    expected = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    assert measures.auc(positive, negative) == pytest.approx(expected)
    assert measures.auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert np.isnan(measures.auc(np.array([]), np.array([1.0])))


def test_at_equal_error_as_many_are_missed_as_are_wrongly_found() -> None:
    assert measures.recall_at_equal_error(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert measures.recall_at_equal_error(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 0
    # Two normal distributions two standard deviations apart: the threshold between them misses 15.9 %.
    normal = np.random.default_rng(0).standard_normal(40_000)
    assert measures.recall_at_equal_error(normal[:10_000] + 2, normal[10_000:]) == pytest.approx(
        0.841, abs=0.01
    )


@settings(deadline=None)
@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=20),
    st.lists(st.integers(-9, 9), min_size=1, max_size=20),
)
def test_recall_is_a_share_whatever_the_scores(positive: list[int], negative: list[int]) -> None:
    recall = measures.recall_at_equal_error(np.array(positive, float), np.array(negative, float))
    assert 0 <= recall <= 1


def test_a_phone_is_judged_by_the_frames_within_55_ms_of_its_middle() -> None:
    curve = np.arange(60, dtype=np.float32)
    phones = [("P", 0.9, 1.1), ("SIL", 1.1, 1.5), ("AA", 2.5, 2.9)]  # frames 28.35 … 31.65; past the end
    assert measures.phone_scores(curve, phones, FPS) == [("P", 31.0)]
    assert measures.phone_scores(curve, phones, FPS, mean=True) == [("P", 30.0)]


def test_closures_are_told_from_everything_that_is_said_and_the_others_from_their_own_list() -> None:
    scores = [("P", 3.0), ("AA", 1.0), ("S", 0.0), ("HH", 2.0)]
    positive, negative = measures.split(scores, CONTRASTS["closure"])
    assert positive.tolist() == [3.0] and negative.tolist() == [1.0, 0.0, 2.0]
    positive, negative = measures.split(scores, CONTRASTS["opening"])
    assert positive.tolist() == [1.0] and negative.tolist() == [3.0, 0.0]


def test_the_rig_shows_each_contrast_by_its_curve() -> None:
    curves = face().curves(
        np.concatenate(
            [
                motion(1),
                motion(1, jawOpen=0.5),
                motion(1, jawOpen=0.5, mouthClose=0.5),
                motion(1, mouthPucker=0.5, mouthFunnel=0.25),
                motion(1, mouthRollLower=0.6),
            ]
        )
    )
    rest, opened, sealed = curves["aperture"][:3]
    assert rest == pytest.approx(face().rest_mm, abs=1e-4)
    assert opened > rest + 5 and sealed < rest + 0.5
    assert curves["closure"][1] == -opened
    assert curves["rounding"][3] == pytest.approx(0.75)
    assert curves["tuck"][4] == pytest.approx(0.6)


# ---- in time ----


@pytest.mark.parametrize("frames_late", [-2.0, 0.0, 0.4, 3.0])
def test_the_lag_is_positive_where_the_face_is_late(frames_late: float) -> None:
    reference = smooth(400)
    late = np.interp(np.arange(400) - frames_late, np.arange(400), reference).astype(np.float32)
    found = measures.best_lag_ms([(late, reference), (late[:50], reference[:60])], FPS)
    assert found == pytest.approx(1000 * frames_late / FPS, abs=3)


def test_correlation_is_of_all_recordings_together_and_at_zero_lag_without_a_shift() -> None:
    one, other = smooth(200, 1), smooth(200, 2)
    expected = np.corrcoef(np.concatenate([one, one + 1]), np.concatenate([other, other]))[0, 1]
    assert measures.correlation_at([(one, other), (one + 1, other)], 0) == pytest.approx(expected, abs=1e-6)
    assert measures.correlation_at([(one, one)], 0) == pytest.approx(1)


# ---- in space ----


def test_the_lip_error_is_the_mean_over_frames_of_the_worst_lip_vertex_squared() -> None:
    one, other = motion(4, jawOpen=0.5), motion(4, jawOpen=np.array([0.5, 0.5, 0.5, 0.1], np.float32))
    moved = 0.4 * face().lips[CHANNELS.index("jawOpen")]
    expected = np.square(moved).sum(-1).max() / 4
    assert measures.lip_error_mm2(face(), one, other) == pytest.approx(float(expected), rel=1e-5)


def test_a_stiller_upper_face_has_a_positive_difference_in_dynamics() -> None:
    lively = motion(60, browInnerUp=smooth(60))
    assert measures.upper_face_dynamics_mm(face(), lively, lively) == 0
    still = measures.upper_face_dynamics_mm(face(), lively, motion(60))
    assert still > 0
    assert measures.upper_face_dynamics_mm(face(), motion(60), lively) == pytest.approx(-still)


def test_an_even_movement_does_not_bend_and_a_shaking_one_does() -> None:
    even = motion(60, jawOpen=np.linspace(0, 0.6, 60, dtype=np.float32))
    shaking = even + motion(60, jawOpen=0.02 * (-1.0) ** np.arange(60, dtype=np.float32))
    assert measures.bends_mm(face(), even).max() < 1e-4
    assert measures.bends_mm(face(), shaking).shape == (58,)
    assert measures.bends_mm(face(), shaking).min() > 0.1


def test_the_seam_ratio_finds_jumps_between_hops() -> None:
    even = np.linspace(0, 0.6, 60, dtype=np.float32)
    jumping = np.cumsum(np.where(np.arange(60) % 2 == 0, 0.02, 0.01)).astype(
        np.float32
    )  # into every even frame
    assert measures.seam_ratio(face(), [motion(60, jawOpen=even)], 2) == pytest.approx(1, abs=1e-3)
    assert measures.seam_ratio(face(), [motion(60, jawOpen=jumping)], 2) == pytest.approx(2, abs=1e-3)
    assert np.isnan(measures.seam_ratio(face(), [motion(60, jawOpen=even)], 1))


def test_diversity_is_the_mean_distance_of_all_pairs() -> None:
    samples = [motion(5, jawOpen=value) for value in (0.0, 0.1, 0.3)]
    apart = [
        float(np.linalg.norm(gap * face().skin[CHANNELS.index("jawOpen")], axis=-1).mean())
        for gap in (0.1, 0.3, 0.2)
    ]
    assert measures.diversity_mm(face(), samples) == pytest.approx(np.mean(apart), rel=1e-5)
    assert measures.diversity_mm(face(), [samples[1]] * 10) == 0


def test_a_blink_counts_once() -> None:
    lid = np.zeros(60, np.float32)
    lid[10:14], lid[30:32], lid[50:55] = 1.0, 0.9, 0.5  # the last only squints
    assert measures.blinks(motion(60, eyeBlinkLeft=lid)) == 2


# ---- pauses, and speech without words ----


def test_a_pause_is_a_silence_that_began_200_ms_ago() -> None:
    phones: list[Phone] = [("SIL", 0.0, 0.4), ("AA", 0.4, 1.0), ("SIL", 1.0, 1.1), ("P", 1.1, 1.2)]
    assert np.flatnonzero(measures.pause_frames(phones, 40, FPS)).tolist() == [6, 7, 8, 9, 10, 11]
    assert not measures.pause_frames([("AA", 0.0, 1.0)], 30, FPS).any()


def test_a_pause_may_leave_out_the_time_in_which_the_mouth_prepares_the_next_word() -> None:
    phones: list[Phone] = [("SIL", 0.0, 0.5), ("AA", 0.5, 1.0), ("SIL", 1.0, 1.4)]
    paused = measures.pause_frames(phones, 42, FPS, before_s=0.15)
    assert np.flatnonzero(paused).tolist() == [
        6,
        7,
        8,
        9,
        10,
        36,
        37,
        38,
        39,
        40,
        41,
    ]  # nothing follows the last


def test_loudness_finds_the_pauses_of_speech_without_words() -> None:
    voice = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
    voice[16_000:32_000] *= 0.001  # −60 dB
    voice[40_000:42_000] = 0  # too short for a pause
    level = measures.level_db(voice, 90, FPS)
    assert level.shape == (90,) and level.min() == -40 and abs(float(np.median(level[:25]))) < 1
    spans = measures.quiet_spans(level, FPS)
    assert [name for name, _, _ in spans] == ["SPEECH", "SIL", "SPEECH"]
    assert [edge for _, *edges in spans for edge in edges] == pytest.approx([0, 1, 1, 2, 2, 3], abs=0.05)
    assert measures.quiet_spans(np.zeros(30, np.float32), FPS) == [("SPEECH", 0.0, 1.0)]
    assert measures.quiet_spans(np.full(30, -40, np.float32), FPS) == [("SIL", 0.0, 1.0)]


def test_dips_within_speech_are_closures_and_a_closed_mouth_in_a_pause_is_none() -> None:
    aperture = np.full(40, 5, np.float32)
    aperture[[5, 6, 7, 20, 39]] = 0.2
    aperture[25:35] = 0.3
    paused = np.zeros(40, bool)
    paused[28:32] = True
    assert measures.closures(aperture, paused) == 3


def test_runs_are_where_something_holds_without_a_break() -> None:
    held = np.array([True, True, False, True, False, False, True])
    assert measures.runs(held) == [(0, 2), (3, 4), (6, 7)]
    assert measures.runs(np.zeros(0, bool)) == []
