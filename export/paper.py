"""``python -m export.paper CHECKPOINT --out BUNDLE``: a checkpoint of the paper's network becomes a bundle.

The graph takes one window of audio and gives one segment of vertex offsets. It holds the audio encoder and
every denoise step, folded into d dimensions (``model.paper.folded``), so that V·3 values appear once, at its
end. The rig (a template, see ``model.import_checkpoint``) must lie in the bundle's folder already. Rules:

1. Inputs ``audio`` (B, N), ``noise`` (B, T, d), ``style`` (B, S); output ``motion`` (B, T, V·3), offsets from
   the template in metres. The networks were trained on whole sentences without a prefix, so there is none.
2. The noise is drawn in d dimensions: ``noise_root`` gives it the distribution that the image of V·3 values
   of noise has where the network first sees them.
3. The window is 100 hidden states of the audio encoder, 32,080 samples, two seconds. They are whole frames at
   both rates (60 at 30 fps, 50 at 25) and whole periods of the positions and the bias, and the segment begins
   with the window, as a sentence's frames begin with its audio. Longer would be nearer to the sentences of
   four seconds that the network was trained on; but every hop pays for the whole window.
4. Audio is normalised per window, as it was per sentence.
5. The moving average of VOCASET runs over the segment, in d dimensions, where it is the same.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from export.graph import OUTPUT, write_graph
from model.diffusion import STEPS, ddim, ddim_legacy, published_steps
from model.paper.checkpoint import read_checkpoint
from model.paper.folded import Folded, Sampler, from_noise, noise_root
from model.paper.network import PaperDiffSpeaker, moving_average
from model.paper.shape import HIDDEN_RATE_HZ, SAMPLE_RATE_HZ, PaperShape
from streamer.contract.errors import FaceError
from streamer.contract.grid import Grid
from streamer.contract.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Choice,
    Manifest,
    Model,
    Motion,
    Rig,
    Timing,
    Training,
    sha256,
    write_manifest,
)

SAMPLERS: dict[str, Sampler] = {"ddim_legacy": ddim_legacy, "ddim": ddim}
HIDDEN_STATES = 100
# A hidden state hears 400 samples, and the next one begins 320 later.
WINDOW_SAMPLES = (HIDDEN_STATES - 1) * SAMPLE_RATE_HZ // HIDDEN_RATE_HZ + 400
LARGEST_OFFSET_M = 0.5  # beyond, the wire's 16 bits end as well
# Both sides compute in float32 with equal weights; of the largest offset, because metres are small numbers.
TOLERANCE = 1e-4


def grid(shape: PaperShape) -> Grid:
    """The time base: a segment begins with its window, and what follows its newest frame is the tail."""
    frames = shape.frames(HIDDEN_STATES)
    newest_sample = (frames - 1) * SAMPLE_RATE_HZ // shape.frame_rate_hz
    return Grid(SAMPLE_RATE_HZ, shape.frame_rate_hz, WINDOW_SAMPLES, WINDOW_SAMPLES - newest_sample, frames)


def timing(shape: PaperShape) -> Timing:
    """Half a second's hop and a fifth's lookahead: 50 steps are many, and the network was never taught to do
    without the future."""
    time, rate = grid(shape), shape.frame_rate_hz
    hop, lookahead = rate // 2, rate // 5
    hop_samples, lookahead_samples = time.frame_sample(hop), time.lookahead_samples(lookahead)
    return Timing(
        sample_rate_hz=time.sample_rate_hz,
        frame_rate_hz=time.frame_rate_hz,
        window_samples=time.window_samples,
        tail_samples=time.tail_samples,
        segment_frames=time.segment_frames,
        context_frames=time.context_frames(hop, lookahead),
        context_samples=time.window_samples - hop_samples - lookahead_samples,
        hop=Choice(1, rate, hop, hop_samples),
        lookahead=Choice(0, rate // 2, lookahead, lookahead_samples),
        prefix_frames=0,
    )


class FusedPaper(nn.Module):
    """audio (B, N), noise (B, T, d), style (B, S) -> motion (B, T, V·3), offsets in metres.

    Takes the network over: what is only needed for training leaves it.
    """

    def __init__(self, net: PaperDiffSpeaker, sampler: Sampler, steps: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.sampler, self.steps = sampler, list(steps)
        convolution = net.audio_encoder.encoder.pos_conv_embed.conv
        if parametrize.is_parametrized(convolution):
            parametrize.remove_parametrizations(convolution, "weight")  # the weight norm becomes a weight
        denoiser = net.denoiser
        self.folded = Folded(denoiser)
        self.eval()
        with torch.no_grad():
            position, bias = denoiser.tables(net.shape.frames(HIDDEN_STATES))
            constants = {
                "root": noise_root(denoiser),
                "step_tokens": denoiser.time_embedding(torch.tensor(self.steps)),
                "position": position,
                "bias": bias,
            }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        self.root: Tensor
        self.step_tokens: Tensor
        self.position: Tensor
        self.bias: Tensor

    def forward(self, audio: Tensor, noise: Tensor, style: Tensor) -> Tensor:
        """See the class."""
        denoiser = self.net.denoiser
        heard = denoiser.audio_feature_map(self.net.encode(audio))
        step_tokens = iter(self.step_tokens)

        def denoise(coordinates: Tensor, _step: Tensor) -> Tensor:
            token = next(step_tokens).expand(
                style.shape[0], -1
            )  # the sampler asks once per step, in their order
            tokens = denoiser.condition_tokens(style, token)
            return self.folded.predict(coordinates, heard, tokens, (self.position, self.bias))

        clean = self.sampler(denoise, from_noise(noise @ self.root), self.steps)
        if self.net.shape.smooth:
            clean = moving_average(clean)
        return self.folded.decode(clean)


def example_inputs(shape: PaperShape, batch: int, seed: int) -> dict[str, Tensor]:
    """Random inputs of the graph's shapes: audio like quiet noise, one style after the other."""
    generator = torch.Generator().manual_seed(seed)
    style = nn.functional.one_hot(torch.arange(batch) % shape.styles, shape.styles).float()
    return {
        "audio": 0.1 * torch.randn(batch, WINDOW_SAMPLES, generator=generator),
        "noise": torch.randn(batch, shape.frames(HIDDEN_STATES), shape.width, generator=generator),
        "style": style,
    }


def relative_difference(fused: FusedPaper, path: Path) -> float:
    """The largest difference between PyTorch and the graph in two batches, relative to the largest offset."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 3):
        inputs = example_inputs(fused.net.shape, batch, seed=batch)
        with torch.no_grad():
            expected = fused(*inputs.values()).numpy()
        (got,) = session.run([OUTPUT], {name: value.numpy() for name, value in inputs.items()})
        worst = max(worst, float(np.abs(got - expected).max() / np.abs(expected).max().clip(1e-9)))
    return worst


def manifest_of(
    net: PaperDiffSpeaker, styles: list[str], options: argparse.Namespace, files: dict[str, str]
) -> Manifest:
    """The manifest of a bundle whose files are written, with their hashes."""
    shape = net.shape
    encoder = net.audio_encoder.config
    return Manifest(
        format="diffspeaker-bundle",
        format_version=FORMAT_VERSION,
        name=options.name or shape.name,
        version=options.version,
        licence=options.licence,
        timing=timing(shape),
        model=Model(
            file="model.onnx",
            denoise_steps=options.steps,
            parameters=sum(parameter.numel() for parameter in net.parameters()),
            precision="float32",
            noise_width=shape.width,
        ),
        motion=Motion("vertices", [], "metre", -LARGEST_OFFSET_M, LARGEST_OFFSET_M),
        styles=styles,
        default_style=styles[0],
        rig=Rig(f"{shape.name} template", "rig.npz", None, shape.vertices, options.licence),
        training=Training(
            speech=f"{shape.name}, as the checkpoint's authors used it",
            speech_hours=0.0,
            audio_encoder=f"wav2vec 2.0, {encoder.num_hidden_layers} layers of {encoder.hidden_size}",
            hardware="not stated",
            hours=0.0,
            commit="",
        ),
        files=files,
    )


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    assert __doc__
    command = argparse.ArgumentParser(prog="python -m export.paper", description=__doc__.split("\n\n")[0])
    command.add_argument(
        "checkpoint", type=Path, help="a .safetensors of model.import_checkpoint or training"
    )
    command.add_argument("--out", type=Path, required=True, help="the bundle")
    command.add_argument(
        "--sampler", choices=tuple(SAMPLERS), default="ddim_legacy", help="as published (%(default)s)"
    )
    command.add_argument("--steps", type=int, default=50, help="denoise steps (%(default)s)")
    command.add_argument("--styles", help="a name for each style, with commas (style 1, style 2, …)")
    command.add_argument("--name", help="the bundle's name (the configuration's)")
    command.add_argument("--version", default="0.1.0", help="the bundle's version (%(default)s)")
    command.add_argument(
        "--licence", default="the weights' authors decide", help="for the manifest (%(default)s)"
    )
    return command


def export(options: argparse.Namespace) -> int:
    """Writes the bundle; returns the exit code.

    Raises:
        FileNotFoundError, ValueError, FaceError: in one sentence.
    """
    out: Path = options.out
    rig_path = out / "rig.npz"
    if not rig_path.exists():
        raise FileNotFoundError(
            f"{rig_path} is missing: `python -m model.import_checkpoint {options.checkpoint} --out {out} "
            "--template FILE` writes it"
        )
    if not 1 <= options.steps <= STEPS:
        raise ValueError(f"--steps must lie between 1 and {STEPS}")
    net = read_checkpoint(options.checkpoint)
    shape = net.shape
    styles = options.styles.split(",") if options.styles else [f"style {n + 1}" for n in range(shape.styles)]
    if len(set(styles)) != shape.styles:
        raise ValueError(f"--styles needs {shape.styles} different names, not {len(set(styles))}")
    fused = FusedPaper(net, SAMPLERS[options.sampler], published_steps(options.steps))
    model_path = out / "model.onnx"
    print(f"exporting {options.checkpoint}: {options.steps} steps of {options.sampler}; some minutes …")
    metadata = {"licence": options.licence, "sampler": options.sampler, "steps": str(options.steps)}
    write_graph(fused, model_path, metadata, example_inputs(shape, 2, seed=0))
    worst = relative_difference(fused, model_path)
    print(f"PyTorch and ONNX differ by at most {worst:.1e} of the largest offset (allowed {TOLERANCE:.0e})")
    if not worst <= TOLERANCE:
        return 1
    files = sorted(path.name for path in out.iterdir() if path.is_file() and path.name != MANIFEST_NAME)
    write_manifest(manifest_of(net, styles, options, {name: sha256(out / name) for name in files}), out)
    print(f"wrote {out} ({sum((out / name).stat().st_size for name in files) / 1e6:.1f} MB)")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    try:
        return export(parser().parse_args(argv))
    except (FaceError, FileNotFoundError, ValueError) as error:
        print(f"export.paper: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nexport.paper: stopped; the bundle is not complete", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
