"""The paper's network on recordings it has not learnt from: animated as published, measured clip by clip.

All styles of a clip start from the same noise, which hangs on the seed and the clip's place in its split,
so that the same weights give the same figures. The loop runs in d dimensions (``model.paper.folded``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from model.diffusion import ddim, ddim_legacy
from model.paper.folded import Sampler, sample
from model.paper.metrics import Array, VertexSets, clip_measures
from model.paper.network import PaperDiffSpeaker, moving_average
from model.paper.recordings import Clip, Clips

SAMPLERS: dict[str, Sampler] = {"ddim_legacy": ddim_legacy, "ddim": ddim}


def measure_clips(
    net: PaperDiffSpeaker,
    clips: Clips,
    sets: VertexSets,
    sampler: Sampler,
    steps: Sequence[int],
    seed: int,
    split: str,
) -> dict[str, dict[str, float]]:
    """The measures of every clip by its name; ``split`` is the progress bar's word.

    A speaker whom training never saw is shown in every style, a known one in their own. Motion and prediction
    are compared over the frames that both have. The network is left in the mode it was in.
    """
    was_training, result = net.training, {}
    net.eval()
    for index in tqdm(range(len(clips)), desc=split, unit="clip", disable=None, leave=False):
        clip = clips[index]
        seed_all(seed, index)
        styles = list(range(net.shape.styles)) if clip.style is None else [clip.style]
        faces = animate(net, clip, styles, sampler, steps)
        frames = min(faces.shape[1], len(clip.vertices))
        result[clip.name] = clip_measures(
            clip.vertices[:frames].reshape(frames, -1, 3),
            list(faces[:, :frames].reshape(len(styles), frames, -1, 3)),
            clip.template.reshape(-1, 3),
            sets,
            net.shape.frame_rate_hz,
        )
    net.train(was_training)
    return result


@torch.no_grad()
def animate(
    net: PaperDiffSpeaker, clip: Clip, styles: Sequence[int], sampler: Sampler, steps: Sequence[int]
) -> Array:
    """Vertices float32 (styles, T, V·3) for a clip's sound on its speaker's face."""
    embed = net.denoiser.vertice_map.weight
    features = net.encode(torch.from_numpy(clip.audio)[None].to(embed.device))
    noise = torch.randn(1, features.shape[1], net.shape.channels, device=embed.device)
    offsets = sample(
        net.denoiser,
        F.linear(noise, embed).expand(len(styles), -1, -1),
        features.expand(len(styles), -1, -1),
        torch.tensor(styles, device=embed.device),
        steps,
        sampler,
    )
    smoothed = moving_average(offsets) if net.shape.smooth else offsets
    return smoothed.cpu().numpy() + clip.template


def seed_all(seed: int, step: int) -> None:
    """Makes everything random that follows a function of the two numbers."""
    both = np.random.SeedSequence((seed, step)).generate_state(2)
    torch.manual_seed(int(both[0]))
    np.random.seed(both[1])  # transformers draws the audio encoder's masking from NumPy


def table(ours: Mapping[str, float], published: Mapping[str, Mapping[str, float]]) -> str:
    """The figures under the published ones, for the terminal; a dash where there is none."""
    rows = {**published, "this run": ours}
    names = [name for name in ("lve", "fdd", "mtm_ms") if any(name in row for row in rows.values())]
    lines = [f"{'test':<14}" + "".join(f"{name:>12}" for name in names)]
    for system, row in rows.items():
        cells = (f"{row[name]:>12.4g}" if name in row else f"{'-':>12}" for name in names)
        lines.append(f"{system:<14}" + "".join(cells))
    return "\n".join(lines)
