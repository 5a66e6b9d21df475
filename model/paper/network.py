"""The paper's network, exactly: a wav2vec2 encoder and a denoiser of vertex offsets (arXiv 2402.05712).

``encode`` turns a clip's audio into one feature vector per frame; ``denoiser`` predicts the clean motion x0
from noisy motion, those features, a style and a diffusion step. Parameter names and shapes are those of the
published checkpoints, so ``load_state_dict`` takes one as it is. Rules of the denoiser, per layer, pre-norm:

1. ``x += SA(norm1 x)``, ``x += CA(norm2 x)``, ``x += FF(norm3 x)``; no norm after the last layer.
2. The condition tokens [style, step] are prepended to keys and values, never to queries, un-normalised.
3. Self-attention is biased by the distance in periods, and is not causal: see ``self_attention_bias``.
4. In cross-attention, frame i sees exactly {style, step, audio_i}; audio enters un-normalised as well.

What the default model changes about this lies in ``model.network``; what both share is imported from there.
Shapes: B clips, N samples, H hidden states, T frames, d width, S styles.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, Wav2Vec2Config, Wav2Vec2Model

from model.network import join_heads, periodic_encoding, self_attention_bias, split_heads, step_embedding
from model.paper.shape import PaperShape

STEP_WIDTH = 768  # of the step's sinusoid, in both configurations
DROPOUT = 0.1

KeyValue = tuple[Tensor, Tensor]


def normalise(audio: Tensor) -> Tensor:
    """Audio float32 (B, N) -> zero mean and unit variance per clip; doing it twice changes nothing."""
    variance, mean = torch.var_mean(audio, dim=-1, keepdim=True, correction=0)
    return (audio - mean) / (variance + 1e-7).sqrt()


def moving_average(motion: Tensor) -> Tensor:
    """Each frame of (B, T, C) becomes the mean of itself and its two neighbours; an end has one."""
    pooled = F.avg_pool1d(motion.transpose(1, 2), 3, stride=1, padding=1, count_include_pad=False)
    return pooled.transpose(1, 2)


class Attention(nn.Module):
    """The projections of one attention; ``in_proj_weight`` stacks query, key and value in this order."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def query(self, x: Tensor) -> Tensor:
        """(B, T, d) -> (B, heads, T, d/heads)."""
        d = x.shape[-1]
        return split_heads(F.linear(x, self.in_proj_weight[:d], self.in_proj_bias[:d]), self.heads)

    def key_value(self, x: Tensor) -> KeyValue:
        """(B, K, d) -> keys and values, each (B, heads, K, d/heads)."""
        d = x.shape[-1]
        key, value = F.linear(x, self.in_proj_weight[d:], self.in_proj_bias[d:]).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    @property
    def dropout(self) -> float:
        """The share of attention weights that is dropped, in training only."""
        return DROPOUT if self.training else 0.0


class SelfAttention(Attention):
    """Frames attend to [tokens; frames], with the bias added to the logits."""

    def forward(self, x: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
        """x (B, T, d), tokens (B, 2, d), bias (heads, T, 2 + T) -> (B, T, d)."""
        key, value = self.key_value(torch.cat([tokens, x], dim=1))
        attended = F.scaled_dot_product_attention(
            self.query(x), key, value, attn_mask=bias, dropout_p=self.dropout
        )
        out: Tensor = self.out_proj(join_heads(attended))
        return out


class CrossAttention(Attention):
    """Frame i attends to {style, step, audio_i}.

    A softmax over three terms, written out: a masked T × (2 + T) attention would compute the same and throw
    most of its products away.
    """

    def forward(self, x: Tensor, tokens: Tensor, audio: KeyValue) -> Tensor:
        """x (B, T, d), tokens (B, 2, d), ``key_value`` of the audio -> (B, T, d)."""
        query = self.query(x)
        token_key, token_value = self.key_value(tokens)
        audio_key, audio_value = audio
        to_tokens = query @ token_key.transpose(-1, -2)
        to_audio = (query * audio_key).sum(-1, keepdim=True)
        share = (torch.cat([to_tokens, to_audio], dim=-1) * query.shape[-1] ** -0.5).softmax(dim=-1)
        share = F.dropout(share, self.dropout)
        out: Tensor = self.out_proj(join_heads(share[..., :2] @ token_value + share[..., 2:] * audio_value))
        return out


class DenoiserLayer(nn.Module):
    """Biased conditional self-attention, biased conditional cross-attention, feed-forward; pre-norm."""

    def __init__(self, shape: PaperShape) -> None:
        super().__init__()
        d = shape.width
        self.self_attn = SelfAttention(d, shape.heads)
        self.multihead_attn = CrossAttention(d, shape.heads)
        self.linear1 = nn.Linear(d, shape.feed_forward)
        self.linear2 = nn.Linear(shape.feed_forward, d)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, tokens: Tensor, audio: KeyValue, bias: Tensor) -> Tensor:
        """x (B, T, d), tokens (B, 2, d), the audio's keys and values, bias (heads, T, 2 + T) -> (B, T, d)."""
        x = x + self.dropout(self.self_attn(self.norm1(x), tokens, bias))
        x = x + self.dropout(self.multihead_attn(self.norm2(x), tokens, audio))
        widened = self.dropout(F.gelu(self.linear1(self.norm3(x))))
        x = x + self.dropout(self.linear2(widened))
        return x


class DenoiserLayers(nn.Module):
    """The layers under the name that the checkpoints give them."""

    def __init__(self, shape: PaperShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenoiserLayer(shape) for _ in range(shape.layers))


class TimeEmbedding(nn.Module):
    """The diffusion step (B,) -> (B, d·layers): a sinusoid, Linear, SiLU, Linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(STEP_WIDTH, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, step: Tensor) -> Tensor:
        """See the class."""
        sinusoid = step_embedding(step, STEP_WIDTH).to(self.linear_1.weight)
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(sinusoid)))
        return embedding


class PaperDenoiser(nn.Module):
    """Noisy motion, audio features, style and step -> clean motion, all in metres.

    ``forward`` is three parts, each of use alone (``model.paper.folded`` runs the middle one only):
    ``vertice_map`` embeds the motion, ``transform`` works in d dimensions, ``motion_decoder`` decodes.
    """

    def __init__(self, shape: PaperShape, feature_width: int = 768) -> None:
        super().__init__()
        d = shape.width
        self.shape = shape
        self.audio_feature_map = nn.Linear(feature_width, d)
        self.vertice_map = nn.Linear(shape.channels, d)
        self.transformer_decoder = DenoiserLayers(shape)
        self.time_embedding = TimeEmbedding(d * shape.layers)
        self.motion_decoder = nn.Linear(d, shape.channels)
        self.obj_vector = nn.Embedding(shape.styles, d * shape.layers)
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.zeros_(self.motion_decoder.weight)
        nn.init.zeros_(self.motion_decoder.bias)

    def forward(self, noisy: Tensor, features: Tensor, style: Tensor, step: Tensor) -> Tensor:
        """One prediction of x0.

        Args:
            noisy: float32 (B, T, V·3), offsets from the template in metres, noised to ``step``.
            features: float32 (B, T, 768), what ``PaperDiffSpeaker.encode`` returns.
            style: int64 (B,), indices; or float32 (B, S), one-hot or a mixture.
            step: int64 (B,), in [0, 999].

        Returns:
            float32 (B, T, V·3), offsets in metres.
        """
        tokens = self.condition_tokens(style, self.time_embedding(step))
        tables = self.tables(noisy.shape[1])
        hidden = self.transform(self.vertice_map(noisy), self.hear(features), tokens, tables)
        clean: Tensor = self.motion_decoder(hidden)
        return clean

    def hear(self, features: Tensor) -> list[KeyValue]:
        """Each layer's keys and values of the audio, from features (B, T, 768); the same at every step."""
        audio = self.audio_feature_map(features)
        layers = cast(Iterable[DenoiserLayer], self.transformer_decoder.layers)
        return [layer.multihead_attn.key_value(audio) for layer in layers]

    def condition_tokens(self, style: Tensor, step_tokens: Tensor) -> list[Tensor]:
        """Each layer's tokens [style, step], (B, 2, d), from styles as in ``forward`` and (B, d·layers)."""
        if style.is_floating_point():
            style_tokens = style.to(self.obj_vector.weight) @ self.obj_vector.weight
        else:
            style_tokens = self.obj_vector(style)
        return list(torch.stack([style_tokens, step_tokens], dim=1).chunk(self.shape.layers, dim=-1))

    def tables(self, frames: int) -> tuple[Tensor, Tensor]:
        """What the length alone decides: positions (T, d), the self-attention bias (heads, T, 2 + T)."""
        position = periodic_encoding(frames, self.shape.width, self.shape.period)
        bias = self_attention_bias(frames, self.shape.heads, self.shape.period)
        return position.to(self.vertice_map.weight), bias.to(self.vertice_map.weight)

    def transform(
        self, embedded: Tensor, audio: list[KeyValue], tokens: list[Tensor], tables: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Embedded motion (B, T, d), ``hear``, ``condition_tokens``, ``tables(T)`` -> hidden (B, T, d)."""
        position, bias = tables
        x: Tensor = self.dropout(embedded + position)
        for layer, pair, heard in zip(self.transformer_decoder.layers, tokens, audio, strict=True):
            x = layer(x, pair, heard, bias)
        return x


class PaperDiffSpeaker(nn.Module):
    """Audio encoder and denoiser, with the published checkpoints' names.

    Args:
        shape: the configuration.
        encoder_config: the audio encoder's; wav2vec2 base where none is given. Its weights are random until
            ``load_state_dict``, or until it is replaced by ``load_audio_encoder``'s.
    """

    def __init__(self, shape: PaperShape, encoder_config: Wav2Vec2Config | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.audio_encoder = Wav2Vec2Model(encoder_config or Wav2Vec2Config())
        self.audio_encoder.feature_extractor.requires_grad_(False)  # the convolutions stay as pretrained
        self.denoiser = PaperDenoiser(shape, self.audio_encoder.config.hidden_size)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio float32 (B, N) at 16 kHz -> features float32 (B, T, 768), T = ``shape.frames(H)``.

        Normalises each clip, encodes it to hidden states at 50 Hz, and interpolates them to the frame rate,
        the first state on the first frame and the last state on the last.
        """
        hidden = self.audio_encoder(normalise(audio)).last_hidden_state
        frames = self.shape.frames(hidden.shape[1])
        at_frames = F.interpolate(hidden.transpose(1, 2), size=frames, mode="linear", align_corners=True)
        return at_frames.transpose(1, 2)


def load_audio_encoder(folder: Path) -> Wav2Vec2Model:
    """A pretrained wav2vec2 or HuBERT from a local transformers folder, in the class that the paper uses.

    HuBERT's base model has the same parameters and computes the same. Nothing is downloaded.

    Raises:
        ValueError: the folder holds no such model.
    """
    try:
        if not folder.is_dir():
            raise OSError("there is no such folder")
        pretrained = AutoModel.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{folder} is no transformers folder with a wav2vec2 or HuBERT model: {reason}"
        ) from None
    kind = pretrained.config.model_type
    if kind not in ("wav2vec2", "hubert"):
        raise ValueError(f"{folder} holds a {kind} model where wav2vec2 or HuBERT is needed")
    known = Wav2Vec2Config().to_dict()
    fields = {name: value for name, value in pretrained.config.to_dict().items() if name in known}
    encoder = Wav2Vec2Model(Wav2Vec2Config(**{**fields, "model_type": "wav2vec2"}))
    encoder.load_state_dict(pretrained.state_dict())
    return encoder
