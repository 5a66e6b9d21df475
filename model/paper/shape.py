"""The two configurations that the paper published, in one place: VOCASET and BIWI.

Motion x is the vertices' offsets from the speaker's template in metres, flattened to V·3 values per frame.
The names of the sizes are the paper's: width d, feed-forward FF, period p of the positions and of the bias.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLE_RATE_HZ = 16_000
HIDDEN_RATE_HZ = 50  # wav2vec2's hidden states: one per 320 samples, each out of 400


@dataclass(frozen=True)
class PaperShape:
    """One published configuration.

    Attributes:
        name: the data set. vertices: V. frame_rate_hz: of the motion. width: d. feed_forward: FF.
        layers, heads: of the denoiser. styles: training speakers, one embedding each.
        period: p, of the periodic positions and the self-attention bias; one second in both.
        smooth: whether the output passes through a moving average of three frames.
    """

    name: str
    vertices: int
    frame_rate_hz: int
    width: int
    feed_forward: int
    layers: int
    heads: int
    styles: int
    period: int
    smooth: bool

    @property
    def channels(self) -> int:
        """Values per frame, V·3."""
        return 3 * self.vertices

    def frames(self, hidden_states: int) -> int:
        """The frames that ``hidden_states`` states of the audio encoder are interpolated to.

        In floating point, as published: where the quotient is whole, it may come out one frame short.
        """
        return int(hidden_states / HIDDEN_RATE_HZ * self.frame_rate_hz)


VOCASET = PaperShape(
    name="vocaset",
    vertices=5_023,
    frame_rate_hz=30,
    width=512,
    feed_forward=1024,
    layers=1,
    heads=4,
    styles=8,
    period=30,
    smooth=True,
)
BIWI = PaperShape(
    name="biwi",
    vertices=23_370,
    frame_rate_hz=25,
    width=1024,
    feed_forward=2048,
    layers=1,
    heads=4,
    styles=6,
    period=25,
    smooth=False,
)
SHAPES = {shape.name: shape for shape in (VOCASET, BIWI)}
