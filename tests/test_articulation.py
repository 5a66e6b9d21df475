"""What the network is taught: phones to curves, idle motion from noise, windows of a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch

from model.articulation import (
    IDLE_REACH_FRAMES,
    TRACKS,
    Phone,
    gestures,
    idle_coefficients,
    speech_coefficients,
)
from model.shape import CHANNELS, DECIDING_NOISE, GRID, STYLE_SCALES, STYLES
from model.speech import Windows, augment, build_strip, frame_tracks, is_held_out, pitch

EVERY_STYLE = torch.eye(len(STYLES), len(STYLES) + len(STYLE_SCALES))
NEUTRAL = EVERY_STYLE[:1]
LOUD = np.ones(200, np.float32)


def curves(
    phones: list[Phone], style: torch.Tensor = NEUTRAL, loudness: npt.NDArray[np.float32] = LOUD
) -> torch.Tensor:
    """Coefficients at 100 Hz, (n, 52)."""
    tracks = gestures(phones, phones[-1][2], loudness)
    return speech_coefficients(torch.from_numpy(tracks)[None], style)[0]


def channel(motion: torch.Tensor, name: str) -> torch.Tensor:
    return motion[..., CHANNELS.index(name)]


def scaled(style: torch.Tensor, **factors: float) -> torch.Tensor:
    """A style vector with some of its scales set."""
    style = style.clone()
    for name, factor in factors.items():
        style[:, len(STYLES) + STYLE_SCALES.index(name)] = factor - 1
    return style


def word(*phones: str, each_s: float = 0.1) -> list[Phone]:
    """Silence, the phones, silence."""
    spans: list[Phone] = [("SIL", 0.0, 0.3)]
    for name in phones:
        spans.append((name, spans[-1][2], spans[-1][2] + each_s))
    return [*spans, ("SIL", spans[-1][2], spans[-1][2] + 0.5)]


@pytest.mark.parametrize("phone", ["P", "B", "M"])
@pytest.mark.parametrize("phase", [0, 1, 2])
def test_a_short_closure_seals_the_lips_on_a_30_fps_grid_of_any_phase(phone: str, phase: int) -> None:
    motion = curves(word("AA", phone, "AA", each_s=0.04))[phase:]
    frames = motion[torch.arange(0, len(motion), 100 / 30).long()]
    start = 0.34 - phase / 100
    near = frames[int((start - 0.03) * 30) : int((start + 0.09) * 30) + 1]
    gap = channel(near, "jawOpen") - channel(near, "mouthClose")
    assert gap.min() < 0.01
    assert channel(near, "mouthLowerDownLeft").min() < 0.01


def test_a_labiodental_tucks_the_lower_lip_and_a_stop_of_the_tongue_does_not() -> None:
    assert channel(curves(word("AA", "F", "AA")), "mouthRollLower").max() > 0.5
    assert channel(curves(word("AA", "T", "AA")), "mouthRollLower").max() < 0.01


def test_rounding_begins_before_the_rounded_vowel_and_spreads_through_consonants() -> None:
    rounded = channel(curves(word("S", "T", "UW")), "mouthPucker")
    unrounded = channel(curves(word("S", "T", "IY")), "mouthPucker")
    during_t = slice(40, 49)
    assert rounded[during_t].max() > unrounded[during_t].max() + 0.1


def test_open_vowels_open_the_jaw_more_than_close_ones_and_sibilants_narrow_it() -> None:
    middle = 35
    opening = {v: float(channel(curves(word(v)), "jawOpen")[middle]) for v in ("AA", "EH", "IY", "S")}
    assert opening["AA"] > opening["EH"] > opening["IY"] > opening["S"]


def test_the_mouth_rests_200_ms_after_speech_and_before_it() -> None:
    mouth = [i for i, name in enumerate(CHANNELS) if name.startswith(("jaw", "mouth", "tongue"))]
    motion = curves(word("AA", "M", "AA"))[:, mouth]
    assert motion[81:].abs().max() < 0.005
    assert motion[:15].abs().max() < 0.02


def test_quiet_speech_opens_less_than_loud_speech() -> None:
    loud = channel(curves(word("AA"), loudness=LOUD * 1.2), "jawOpen").max()
    quiet = channel(curves(word("AA"), loudness=LOUD * 0.2), "jawOpen").max()
    assert quiet < 0.9 * loud


def test_every_coefficient_stays_within_its_range_in_every_style_and_doubled() -> None:
    phones = word("W", "AA", "M", "F", "UW", "SH", "IY", "OW", "TH", "AW")
    for style in EVERY_STYLE:
        for scale in (0.0, 1.0, 2.0):
            motion = curves(phones, scaled(style[None], intensity=scale, jaw=scale))
            assert motion.min() >= 0
            assert motion.max() <= 1


def test_a_style_scale_turns_its_own_part_and_never_opens_a_closure() -> None:
    def peak(phone: str, name: str, **factors: float) -> float:
        return float(channel(curves(word(phone), scaled(NEUTRAL, **factors)), name).max())

    assert peak("AA", "jawOpen", jaw=1.5) > 1.4 * peak("AA", "jawOpen")
    assert peak("UW", "mouthPucker", lips=0.5) < 0.6 * peak("UW", "mouthPucker")
    assert peak("AA", "jawOpen", intensity=0.5) < 0.6 * peak("AA", "jawOpen")
    closed = curves(word("AA", "M", "AA"), scaled(NEUTRAL, intensity=1.6, jaw=1.6, lips=1.6))[40:50]
    assert (channel(closed, "jawOpen") - channel(closed, "mouthClose")).min() < 0.005


def test_a_pitch_accent_raises_the_brows_and_a_level_voice_does_not() -> None:
    phones = word("AA", each_s=0.2)
    level = speech_coefficients(
        torch.from_numpy(gestures(phones, 1.0, 0.5 * LOUD, np.zeros(100, np.float32)))[None], NEUTRAL
    )
    accent = speech_coefficients(
        torch.from_numpy(gestures(phones, 1.0, 0.5 * LOUD, np.full(100, 6, np.float32)))[None], NEUTRAL
    )
    assert channel(level, "browInnerUp").max() < 0.02 < 0.15 < channel(accent, "browInnerUp").max()


def test_pitch_follows_a_gliding_tone_in_semitones() -> None:
    hz = np.linspace(110, 220, 32_000)
    audio = (0.3 * np.sin(2 * np.pi * np.cumsum(hz) / 16_000)).astype(np.float32)
    track = pitch(audio)
    assert len(track) == 200
    expected = 12 * np.log2(hz[::160] / np.median(hz))
    assert np.abs(track[10:190] - expected[10:190]).max() < 0.7
    assert not pitch(np.zeros(8000, np.float32)).any()


def test_styles_differ_as_they_are_called() -> None:
    jaw = {
        s: float(channel(curves(word("AA"), EVERY_STYLE[i : i + 1]), "jawOpen").max())
        for i, s in enumerate(STYLES)
    }
    smile = {
        s: float(channel(curves(word("AA"), EVERY_STYLE[i : i + 1]), "mouthSmileLeft").max())
        for i, s in enumerate(STYLES)
    }
    assert jaw["energetic"] > jaw["neutral"] > jaw["soft"]
    assert smile["cheerful"] > smile["neutral"] + 0.2


def test_idle_motion_hangs_on_the_noise_of_its_own_and_the_last_frames_only() -> None:
    noise = torch.randn(1, IDLE_REACH_FRAMES + 40, 52)
    moved = noise.clone()
    moved[:, :20] = torch.randn(1, 20, 52)
    one, other = (idle_coefficients(n, NEUTRAL) for n in (noise, moved))
    assert not torch.equal(one[:, :10], other[:, :10])
    assert torch.equal(one[:, 20:], other[:, 20:])


def test_noise_decides_something_in_just_the_channels_that_keep_it() -> None:
    noise = 2 * torch.randn(1, 400, len(CHANNELS), generator=torch.Generator().manual_seed(0))
    before = idle_coefficients(noise, NEUTRAL)
    deciding = []
    for place, name in enumerate(CHANNELS):
        moved = noise.clone()
        moved[..., place] *= -1
        if not torch.equal(idle_coefficients(moved, NEUTRAL), before):
            deciding.append(name)
    assert set(deciding) == set(DECIDING_NOISE)


def test_people_blink_with_both_eyes_several_times_a_minute_and_gaze_together() -> None:
    generator = torch.Generator().manual_seed(0)
    idle = idle_coefficients(
        torch.randn(1, IDLE_REACH_FRAMES + 30 * 60 * 20, 52, generator=generator), NEUTRAL
    )[0]
    left, right = channel(idle, "eyeBlinkLeft"), channel(idle, "eyeBlinkRight")
    assert torch.equal(left, right)
    shut = left > 0.9
    blinks_per_minute = int((shut[1:] & ~shut[:-1]).sum()) / 20
    assert 10 < blinks_per_minute < 25
    assert torch.equal(channel(idle, "eyeLookInLeft"), channel(idle, "eyeLookOutRight"))
    assert (torch.minimum(channel(idle, "eyeLookInLeft"), channel(idle, "eyeLookOutLeft")) == 0).all()
    speech_only = [n for n in CHANNELS if n.startswith(("jaw", "mouth", "tongue")) and "Smile" not in n]
    assert idle[:, [CHANNELS.index(n) for n in speech_only]].abs().max() == 0


# ---- the corpus ------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two voices; each file is silence, one second of a loud tone called AA, silence."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = []
    for name, voice in (("a", "af_nova"), ("b", "0.4*af_kore+0.6*bf_emma")):
        tone = np.zeros(32_000, np.float32)
        tone[8_000:24_000] = 0.5 * np.sin(np.arange(16_000) * 0.3)
        soundfile.write(folder / f"{name}.ogg", tone, 16_000, format="OGG", subtype="OPUS")
        phones = [["SIL", 0, 0.5], ["AA", 0.5, 1.5], ["SIL", 1.5, 2.0]]
        lines.append(
            json.dumps({"audio": f"{name}.ogg", "voice": voice, "phones": phones, "duration_s": 2.0})
        )
    (folder / "x.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_a_mixture_that_names_a_held_out_voice_is_held_out(corpus: Path, tmp_path: Path) -> None:
    assert is_held_out("0.4*af_kore+0.6*bf_emma")
    assert not is_held_out("af_nova")
    assert [u["audio"] for u in build_strip(corpus, tmp_path / "cache", True).utterances] == ["b.ogg"]
    assert [u["audio"] for u in build_strip(corpus, tmp_path / "cache", False).utterances] == ["a.ogg"]


def test_a_frames_curves_belong_to_the_audio_at_its_own_instant(corpus: Path, tmp_path: Path) -> None:
    strip = build_strip(corpus, tmp_path / "cache", False)
    end = 24_000
    tracks = frame_tracks(strip, np.array([end]))[0]
    jaw = tracks[:, TRACKS.index("jaw")]
    instants = (end - GRID.tail_samples) / 16_000 - np.arange(23, -1, -1) / 30
    assert (jaw[(instants > 0.6) & (instants < 1.4)] > 0.3).all()
    assert (jaw[instants < 0.3] < 0.05).all()


def test_the_strip_is_built_once_and_read_back_equal(corpus: Path, tmp_path: Path) -> None:
    first = build_strip(corpus, tmp_path / "cache", False)
    (corpus / "a.ogg").unlink()
    again = build_strip(corpus, tmp_path / "cache", False)
    assert np.array_equal(first.audio, again.audio)
    assert np.array_equal(first.tracks, again.tracks)


def test_a_corpus_that_grew_is_decoded_again(corpus: Path, tmp_path: Path) -> None:
    few = build_strip(corpus, tmp_path / "cache", False)
    line = json.loads((corpus / "x.jsonl").read_text().splitlines()[0])
    (corpus / "y.jsonl").write_text(json.dumps(line | {"voice": "am_adam"}) + "\n")
    more = build_strip(corpus, tmp_path / "cache", False)
    assert len(more.spans) == len(more.utterances) == 2
    assert more.hours == pytest.approx(2 * few.hours)


def test_the_same_seed_draws_the_same_windows(corpus: Path, tmp_path: Path) -> None:
    strip = build_strip(corpus, tmp_path / "cache", False)
    one, other = (Windows(strip, seed=3).draw(4) for _ in range(2))
    assert torch.equal(one.audio, other.audio)
    assert torch.equal(one.motion, other.motion)
    assert one.audio.shape == (4, GRID.window_samples)
    assert one.motion.shape == one.noise.shape == (4, GRID.segment_frames, 52)


def test_augmentation_moves_nothing_in_time() -> None:
    click = torch.zeros(64, 20_000)
    click[:, 9_000:9_016] = 0.9
    heard = augment(click, torch.zeros_like(click), np.random.default_rng(0))
    assert torch.isfinite(heard).all()
    assert heard.abs().max() <= 1
    loudest = heard.abs().unfold(1, 64, 1).sum(-1).argmax(1)
    assert ((loudest - 8_970).abs() < 160).float().mean() > 0.9


def test_a_folder_without_phone_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a speech corpus"):
        build_strip(tmp_path, tmp_path, False)
