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

import msgspec
import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan
from torch.nn.utils import parametrize

from export.graph import OUTPUT, write_graph
from model.diffusion import (
    STEPS,
    ddim,
    ddim_legacy,
    ddim_legacy_weights,
    ddim_weights,
    published_steps,
)
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
STEP_WEIGHTS = {"ddim_legacy": ddim_legacy_weights, "ddim": ddim_weights}
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
    """A second's hop and a fifth's lookahead, where a session does not choose others.

    A hop of one period leaves every frame its place in the period from window to window, and 50 steps take a
    processor the best part of it. The lookahead is for a network that always knew the whole sentence.
    """
    time, rate = grid(shape), shape.frame_rate_hz
    hop, lookahead = shape.period, rate // 5
    hop_samples, lookahead_samples = time.frame_sample(hop), time.lookahead_samples(lookahead)
    return Timing(
        sample_rate_hz=time.sample_rate_hz,
        frame_rate_hz=time.frame_rate_hz,
        window_samples=time.window_samples,
        tail_samples=time.tail_samples,
        segment_frames=time.segment_frames,
        context_frames=time.context_frames(hop, lookahead),
        context_samples=time.window_samples - hop_samples - lookahead_samples,
        hop=Choice(1, hop, hop, hop_samples),
        lookahead=Choice(0, rate // 2, lookahead, lookahead_samples),
        prefix_frames=0,
    )


class FusedPaper(nn.Module):
    """audio (B, N), noise (B, T, d), style (B, S) -> motion (B, T, V·3), offsets in metres.

    Takes the network over: what is only needed for training leaves it.
    """

    def __init__(self, net: PaperDiffSpeaker, sampler: str, steps: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.sampler, self.steps = SAMPLERS[sampler], list(steps)
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
                "weights": torch.tensor(STEP_WEIGHTS[sampler](self.steps)),
            }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)
        self.root: Tensor
        self.step_tokens: Tensor
        self.position: Tensor
        self.bias: Tensor
        self.weights: Tensor

    def forward(self, audio: Tensor, noise: Tensor, style: Tensor) -> Tensor:
        """See the class."""
        denoiser, tables = self.net.denoiser, (self.position, self.bias)
        # A scan takes no views of one tensor, which keys and values are.
        heard = [(key.clone(), value.clone()) for key, value in denoiser.hear(self.net.encode(audio))]

        def predict(coordinates: Tensor, step_token: Tensor) -> Tensor:
            tokens = denoiser.condition_tokens(style, step_token.expand(style.shape[0], -1))
            return self.folded.predict(coordinates, heard, tokens, tables)

        def one_step(coordinates: Tensor, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            step_token, weights = given
            following = weights[0] * predict(coordinates, step_token) + weights[1] * coordinates
            return following, weights[0].clone()  # a scan must also give something per step

        start = from_noise(noise @ self.root)
        if torch.compiler.is_exporting():
            clean, _ = scan(one_step, start, (self.step_tokens, self.weights))
        else:
            step_tokens = iter(self.step_tokens)  # the sampler asks once per step, in their order
            clean = self.sampler(lambda x, _: predict(x, next(step_tokens)), start, self.steps)
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


def manifest_of(net: PaperDiffSpeaker, styles: list[str], options: argparse.Namespace) -> Manifest:
    """The manifest of a bundle whose files are still to be written."""
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
        files={},
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
    manifest = manifest_of(net, styles, options)  # of the network as it was given: fusing changes it
    fused = FusedPaper(net, options.sampler, published_steps(options.steps))
    model_path = out / "model.onnx"
    print(f"exporting {options.checkpoint}: {options.steps} steps of {options.sampler}; a minute or two …")
    metadata = {"licence": options.licence, "sampler": options.sampler, "steps": str(options.steps)}
    write_graph(fused, model_path, metadata, example_inputs(shape, 2, seed=0))
    worst = relative_difference(fused, model_path)
    print(f"PyTorch and ONNX differ by at most {worst:.1e} of the largest offset (allowed {TOLERANCE:.0e})")
    if not worst <= TOLERANCE:
        return 1
    files = sorted(path.name for path in out.iterdir() if path.is_file() and path.name != MANIFEST_NAME)
    hashes = {name: sha256(out / name) for name in files}
    write_manifest(msgspec.structs.replace(manifest, files=hashes), out)
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
