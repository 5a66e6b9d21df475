"""Small sets in the layouts of VOCASET and BIWI, for the tests of the paper's training; all made up.

Six vertices: 0 and 1 are the upper and lower lip's middle, 2 and 3 the corners, 4 and 5 the brow. The lower
lip falls and the corners move in with the loudness of the sound, so that there is something to learn.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import soundfile

from model.paper.recordings import Edition

VERTICES = 6
LIPS, BROW, GAP = (0, 1, 2, 3), (4, 5), (0, 1)
RATE_HZ = 22_000


def template_of(subject: str) -> np.ndarray:
    """A face (V, 3) in metres, its own for every subject."""
    return np.random.default_rng(sum(subject.encode())).normal(0, 0.05, (VERTICES, 3)).astype(np.float32)


def recording(
    subject: str, sentence: str, frame_rate_hz: int, seconds: float = 0.7
) -> tuple[np.ndarray, np.ndarray]:
    """int16 samples (N,) at 22 kHz, and float32 vertices (T, V, 3) at ``frame_rate_hz``."""
    random = np.random.default_rng(sum((subject + sentence).encode()))
    speed = random.uniform(2, 5)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    loudness = np.sin(np.pi * speed * time) ** 2
    samples = (8000 * loudness * random.normal(0, 0.3, time.shape).clip(-1, 1)).astype(np.int16)
    opening = np.sin(np.pi * speed * np.arange(int(seconds * frame_rate_hz)) / frame_rate_hz) ** 2
    offsets = np.zeros((len(opening), VERTICES, 3), dtype=np.float32)
    offsets[:, 1, 1] = -0.03 * opening
    offsets[:, 2, 0], offsets[:, 3, 0] = 0.01 * opening, -0.01 * opening
    offsets[:, 4:, 1] = 0.002 * np.sin(np.arange(len(opening)) / 7)[:, None]
    return samples, template_of(subject) + offsets


def clips_of(edition: Edition, sentences_per_split: int) -> list[tuple[str, str]]:
    """Subject and sentence of the first few sentences of every subject of every split."""
    return sorted(
        {
            (subject, edition.sentence.format(number))
            for split, subjects in edition.subjects.items()
            for subject in subjects
            for number in edition.sentences[split][:sentences_per_split]
        }
    )


def write_templates(edition: Edition, root: Path) -> None:
    """``templates.pkl`` as Python 2 wrote it: protocol 2."""
    subjects = {subject for names in edition.subjects.values() for subject in names}
    templates = {subject: template_of(subject).astype(np.float64) for subject in sorted(subjects)}
    (root / "templates.pkl").write_bytes(pickle.dumps(templates, protocol=2))


def write_faceformer(edition: Edition, root: Path, sentences_per_split: int = 2) -> Path:
    """A set in the FaceFormer layout; returns ``root``."""
    (root / "wav").mkdir(parents=True)
    (root / "vertices_npy").mkdir()
    write_templates(edition, root)
    for subject, sentence in clips_of(edition, sentences_per_split):
        samples, vertices = recording(subject, sentence, edition.recorded_hz)
        soundfile.write(root / "wav" / f"{subject}_{sentence}.wav", samples, RATE_HZ, subtype="PCM_16")
        np.save(root / "vertices_npy" / f"{subject}_{sentence}.npy", vertices.reshape(len(vertices), -1))
    return root


def write_official(edition: Edition, root: Path, sentences_per_split: int = 2) -> Path:
    """VOCASET's own layout; returns ``root``."""
    root.mkdir(parents=True)
    write_templates(edition, root)
    sound: dict[str, dict[str, dict[str, object]]] = {}
    rows: dict[str, dict[str, dict[int, int]]] = {}
    everything: list[np.ndarray] = []
    for subject, sentence in clips_of(edition, sentences_per_split):
        samples, vertices = recording(subject, sentence, edition.recorded_hz)
        sound.setdefault(subject, {})[sentence] = {"audio": samples, "sample_rate": RATE_HZ}
        first = len(everything)
        rows.setdefault(subject, {})[sentence] = {frame: first + frame for frame in range(len(vertices))}
        everything += list(vertices)
    np.save(root / "data_verts.npy", np.stack(everything))
    (root / "raw_audio_fixed.pkl").write_bytes(pickle.dumps(sound, protocol=2))
    (root / "subj_seq_to_idx.pkl").write_bytes(pickle.dumps(rows, protocol=2))
    return root


def write_indices(root: Path) -> dict[str, Path]:
    """The vertex sets as text files, by the names of the options."""
    paths = {}
    for name, indices in (("lip_vertices", LIPS), ("upper_face_vertices", BROW), ("lip_gap_vertices", GAP)):
        paths[name] = root / f"{name}.txt"
        paths[name].write_text(", ".join(map(str, indices)) + "\n")
    return paths
