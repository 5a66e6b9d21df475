"""``python -m model.likeness DIR CHECKPOINT ...``: how near checkpoints come to captured faces.

For takes that were kept out of training, and for as many checkpoints as one likes to compare: before and
after fine-tuning, or one budget and another. Each hears the same windows as the microphone gave them, and
answers as the server would without a prefix, in the student's step. Printed per checkpoint:

- *lips*: root mean square distance from the captured mouth, jaw and cheeks, in coefficients from 0 to 1;
- *brows*: the same of brows and nose. The eyes are nobody's to copy (``model.captures``);
- *opening*: Pearson's r of jawOpen − mouthClose, by which lips part and meet, over all frames.

The first row is no model: the takes' mean face, held still.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from model.captures import Captures
from model.diffusion import few_steps
from model.fine_tune import load_trained
from model.network import DiffSpeaker
from model.shape import CHANNELS
from model.speech import Batch

WINDOWS, AT_ONCE = 512, 64
BROWS = [place for place, name in enumerate(CHANNELS) if name.startswith(("brow", "nose"))]
LIPS = [p for p, name in enumerate(CHANNELS) if not name.startswith(("eye", "brow", "nose"))]


@torch.no_grad()
def answer(net: DiffSpeaker, batch: Batch) -> Tensor:
    """What the network shows for these windows, (B, T, 52)."""
    features = net.ear(batch.audio)
    heard = net.project(features)
    none = torch.zeros_like(batch.motion)

    def denoise(x: Tensor, step: Tensor) -> Tensor:
        clean: Tensor = net.denoiser(x, heard, batch.style, step, none, none[..., 0])
        return clean

    return net.coefficients(few_steps(denoise, net.quieted(batch.noise)), net.contact_logits(features))


def likeness(shown: Tensor, captured: Tensor) -> tuple[float, float, float]:
    """Lips, brows and opening (see above) of motions (B, T, 52); a still face's opening means nothing."""
    apart = (shown - captured).square()
    lips, brows = (float(apart[..., places].mean().sqrt()) for places in (LIPS, BROWS))
    jaw, close = CHANNELS.index("jawOpen"), CHANNELS.index("mouthClose")
    gaps = torch.stack([(motion[..., jaw] - motion[..., close]).flatten() for motion in (shown, captured)])
    return lips, brows, float(torch.corrcoef(gaps)[0, 1])


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m model.likeness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="takes that were kept out of training")
    parser.add_argument("checkpoints", type=Path, nargs="*", metavar="CHECKPOINT", help="student.safetensors")
    options = parser.parse_args(argv)
    try:
        captures = Captures([options.folder], seed=0)
        batches = [captures.draw(AT_ONCE, augmented=False) for _ in range(WINDOWS // AT_ONCE)]
        captured = torch.cat([batch.motion for batch in batches])
        rows = [("the mean face, still", captured.mean((0, 1)).expand_as(captured))]
        for path in options.checkpoints:
            net = DiffSpeaker().eval()
            load_trained(net, path)
            answers = [
                answer(net, batch) for batch in tqdm(batches, desc=path.stem, leave=False, disable=None)
            ]
            rows.append((str(path), torch.cat(answers)))
    except (ValueError, OSError) as error:
        print(f"model.likeness: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; nothing was written.", file=sys.stderr)
        return 130
    width = max(len(name) for name, _ in rows)
    print(f"{'':{width}}   lips  brows  opening r")
    for row, (name, shown) in enumerate(rows):
        lips, brows, opening = likeness(shown, captured)
        print(f"{name:{width}}  {lips:.3f}  {brows:.3f}  " + (f"{opening:9.2f}" if row else "        -"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
