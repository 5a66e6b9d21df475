"""The exact shortcut: the paper's whole sampling loop in d dimensions instead of V·3.

``vertice_map`` (W_v, b_v) and ``motion_decoder`` (W_m, b_m) are affine, and every sampler in
``model.diffusion`` only ever adds multiples of the noise and of predictions x̂0 = W_m y + b_m. So whatever x
it holds is known by its coordinates

    x = (its part in the noise) + W_m a + β b_m        carried as [u, a, β],  u = W_v x

which are linear in x, and the sampler itself may run on them unchanged: the network needs u + b_v alone, and
W_v x̂0 = W_v W_m y + W_v b_m is one d × d product. Only the last y is ever decoded. The noise enters through
u = W_v ε alone; with ε standard normal, u is normal with covariance W_v W_vᵀ, and can be drawn in d
dimensions as well (``noise_root``).

Shapes: B clips, T frames, d width, V·3 values of motion; coordinates are (B, T, 2d + 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from model.diffusion import Denoise, ddim, published_steps
from model.paper.network import KeyValue, PaperDenoiser

Sampler = Callable[[Denoise, Tensor, Sequence[int]], Tensor]


def noise_root(denoiser: PaperDenoiser) -> Tensor:
    """(W_v W_vᵀ)^½, (d, d): ``η @ noise_root`` of standard normal η (…, d) is distributed as W_v ε is."""
    weight = denoiser.vertice_map.weight.detach().double()
    # Symmetric, through the eigenvalues: W_v may have less than full rank, which Cholesky would not take.
    values, vectors = torch.linalg.eigh(weight @ weight.T)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root.to(denoiser.vertice_map.weight)


def from_noise(image: Tensor) -> Tensor:
    """The coordinates of noise ε, out of its image u = W_v ε, (B, T, d)."""
    nothing = torch.zeros_like(image)
    return torch.cat([image, nothing, nothing[..., :1]], dim=-1)


class Folded(nn.Module):
    """A denoiser's two affine maps as one, for as long as its weights stay as they are."""

    def __init__(self, denoiser: PaperDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        embed, decode = denoiser.vertice_map, denoiser.motion_decoder
        self.register_buffer("weight", (embed.weight @ decode.weight).detach(), persistent=False)
        self.register_buffer("bias", (embed.weight @ decode.bias).detach(), persistent=False)
        self.weight: Tensor
        self.bias: Tensor

    def predict(
        self, coordinates: Tensor, audio: list[KeyValue], tokens: list[Tensor], tables: tuple[Tensor, Tensor]
    ) -> Tensor:
        """x0's coordinates from those of noisy motion; the other arguments are ``transform``'s."""
        image = coordinates[..., : self.denoiser.shape.width]
        embedded = image + self.denoiser.vertice_map.bias
        hidden = self.denoiser.transform(embedded, audio, tokens, tables)
        one = torch.ones_like(hidden[..., :1])
        return torch.cat([hidden @ self.weight.T + self.bias, hidden, one], dim=-1)

    def decode(self, coordinates: Tensor) -> Tensor:
        """Motion (B, T, V·3) from the coordinates of a prediction, in which no noise is left."""
        width = self.denoiser.shape.width
        decoder = self.denoiser.motion_decoder
        expansion, share = coordinates[..., width : 2 * width], coordinates[..., 2 * width :]
        return expansion @ decoder.weight.T + share * decoder.bias


def sample(
    denoiser: PaperDenoiser,
    image: Tensor,
    features: Tensor,
    style: Tensor,
    steps: Sequence[int] | None = None,
    sampler: Sampler = ddim,
) -> Tensor:
    """Samples motion with the loop in d dimensions.

    Args:
        denoiser: in evaluation mode.
        image: W_v ε, float32 (B, T, d): ``vertice_map.weight`` times noise, or ``η @ noise_root``.
        features: float32 (B, T, 768), from ``PaperDiffSpeaker.encode``.
        style: as the denoiser takes it.
        steps: the diffusion steps, descending; ``published_steps()`` where none are given.
        sampler: ``ddim``, or ``ddim_legacy`` for a published checkpoint.

    Returns:
        Offsets in metres, float32 (B, T, V·3): what the sampler returns in V·3 dimensions, but for rounding.
    """
    folded = Folded(denoiser)
    audio = denoiser.hear(features)
    tables = denoiser.tables(features.shape[1])

    def denoise(coordinates: Tensor, step: Tensor) -> Tensor:
        tokens = denoiser.condition_tokens(style, denoiser.time_embedding(step))
        return folded.predict(coordinates, audio, tokens, tables)

    chosen = published_steps() if steps is None else steps
    return folded.decode(sampler(denoise, from_noise(image), chosen))
