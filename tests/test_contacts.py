"""Lips that meet: what a likely contact does to drawn lips, how it is taught, and weights from before it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter

from model.articulation import TRACKS, speech_coefficients
from model.contacts import UNKNOWN, contact_loss, meet
from model.fine_tune import load_trained
from model.lessons import style_vector
from model.shape import CHANNELS, GRID
from model.speech import contacts
from model.train import train_contacts
from tests.test_training import LoudnessLessons, options, small_net

JAW, CLOSE, ROLL = (CHANNELS.index(name) for name in ("jawOpen", "mouthClose", "mouthRollLower"))


def drawn(frames: int = 6) -> torch.Tensor:
    """Any motion, its mouth open."""
    motion = torch.rand(2, frames, len(CHANNELS), generator=torch.Generator().manual_seed(0))
    motion[..., CLOSE] *= motion[..., JAW]
    return motion


def both(seal: float, tuck: float, frames: int = 6) -> torch.Tensor:
    return torch.tensor([seal, tuck]).expand(2, frames, 2)


def test_where_no_contact_is_likely_the_motion_is_as_it_was_drawn() -> None:
    torch.testing.assert_close(meet(drawn(), both(0, 0)), drawn(), rtol=0, atol=0)


def test_lips_meet_where_a_seal_is_sure_and_come_nearer_the_likelier_it_is() -> None:
    gaps = [meet(drawn(), both(seal, 0)) for seal in (0.0, 0.3, 0.7, 1.0)]
    gaps = [motion[..., JAW] - motion[..., CLOSE] for motion in gaps]
    assert all((nearer < further).all() for further, nearer in zip(gaps, gaps[1:], strict=False))
    torch.testing.assert_close(gaps[-1], torch.zeros_like(gaps[-1]))


def test_a_contact_opens_nothing_and_stays_within_bounds() -> None:
    closed = drawn()
    closed[..., CLOSE] = closed[..., JAW] + 0.015  # pressed, as the lessons have it
    for seal in (0.2, 1.0):
        met = meet(closed, both(seal, 0.5))
        torch.testing.assert_close(met[..., CLOSE], closed[..., CLOSE])
        assert (met >= 0).all() and (met <= 1).all()


def test_a_tuck_rolls_the_lower_lip_at_least_so_far_and_never_back() -> None:
    rolled = meet(drawn(), both(0, 0.8))[..., ROLL]
    assert (rolled >= drawn()[..., ROLL]).all() and (rolled >= 0.8 * 0.45 - 1e-6).all()


def test_the_lessons_own_contacts_leave_their_curves_almost_as_they_are() -> None:
    tracks = torch.rand(1, 40, len(TRACKS), generator=torch.Generator().manual_seed(1))
    tracks[..., TRACKS.index("seal")] = torch.tensor([0.0, 0.7, 1.0, 0.0]).repeat(10)
    tracks[..., TRACKS.index("tuck")] = 0.0
    taught = speech_coefficients(tracks, style_vector())
    met = meet(taught, contacts(tracks))
    gap, wanted = ((motion[..., JAW] - motion[..., CLOSE]).clamp(min=0) for motion in (met, taught))
    torch.testing.assert_close(gap, wanted, atol=1e-5, rtol=0)
    others = [channel for channel in range(len(CHANNELS)) if channel != ROLL]
    torch.testing.assert_close(met[..., others], taught[..., others], atol=0.1, rtol=0)


def test_what_is_not_known_is_no_lesson() -> None:
    logits = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(2))
    unknown = torch.full((2, 3, 2), UNKNOWN)
    assert contact_loss(logits, unknown) == 0
    half = torch.cat([torch.ones(1, 3, 2), unknown[:1]])
    torch.testing.assert_close(contact_loss(logits, half), contact_loss(logits[:1], torch.ones(1, 3, 2)))


def test_contacts_are_learnt_alone(tmp_path: Path) -> None:
    lessons = LoudnessLessons()
    lessons.seed(0)
    net = small_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with SummaryWriter(str(tmp_path)) as log:
        taught = train_contacts(net, lessons, options(tmp_path, 150), log)
    changed = {name for name, value in taught.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("contacts.")}
    lessons.seed(99)
    batch = lessons.draw(64)
    with torch.no_grad():
        likely = taught.contact_logits(taught.ear(batch.audio)).sigmoid()
    assert likely.shape == (64, GRID.segment_frames, 2)
    assert ((likely[..., 0] > 0.5) == (batch.contacts[..., 0] > 0.5)).float().mean() > 0.8
    assert (likely[..., 1] < 0.1).float().mean() > 0.9


def test_weights_from_before_there_were_contacts_close_nothing(tmp_path: Path) -> None:
    net = small_net()
    old = {name: value for name, value in net.state_dict().items() if not name.startswith("contacts.")}
    save_file(old, tmp_path / "student.safetensors")
    loaded = small_net()
    load_trained(loaded, tmp_path / "student.safetensors")
    with torch.no_grad():
        logits = loaded.contact_logits(loaded.ear(torch.randn(1, GRID.window_samples)))
    assert (logits.sigmoid() < 0.01).all()
