"""The paper's network against its rules: names, counts, an oracle in plain loops, samplers, the shortcut."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from model.diffusion import (
    ALPHA_BAR,
    ddim,
    ddim_legacy,
    ddim_legacy_weights,
    ddim_weights,
    few_steps,
    published_steps,
)
from model.paper import folded
from model.paper.network import (
    PaperDenoiser,
    PaperDiffSpeaker,
    load_audio_encoder,
    moving_average,
    normalise,
)
from model.paper.shape import BIWI, VOCASET, PaperShape

TINY = PaperShape(
    name="tiny",
    vertices=7,
    frame_rate_hz=30,
    width=16,
    feed_forward=24,
    layers=2,
    heads=4,
    styles=3,
    period=4,
    smooth=True,
)
TINY_ENCODER = Wav2Vec2Config(
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)


def randomised(module, seed=0):
    """The module in evaluation mode with every parameter drawn anew, so that nothing is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module.eval()


def checkpoint_shapes(shape):
    """What the published checkpoints hold, as their public record lists it."""
    d, ff, v3 = shape.width, shape.feed_forward, shape.channels
    wanted = {
        "denoiser.audio_feature_map.weight": (d, 768),
        "denoiser.audio_feature_map.bias": (d,),
        "denoiser.vertice_map.weight": (d, v3),
        "denoiser.vertice_map.bias": (d,),
        "denoiser.time_embedding.linear_1.weight": (d, 768),
        "denoiser.time_embedding.linear_1.bias": (d,),
        "denoiser.time_embedding.linear_2.weight": (d, d),
        "denoiser.time_embedding.linear_2.bias": (d,),
        "denoiser.motion_decoder.weight": (v3, d),
        "denoiser.motion_decoder.bias": (v3,),
        "denoiser.obj_vector.weight": (shape.styles, d),
        "audio_encoder.masked_spec_embed": (768,),
        "audio_encoder.feature_projection.layer_norm.weight": (512,),
        "audio_encoder.feature_projection.layer_norm.bias": (512,),
        "audio_encoder.feature_projection.projection.weight": (768, 512),
        "audio_encoder.feature_projection.projection.bias": (768,),
        "audio_encoder.encoder.pos_conv_embed.conv.bias": (768,),
        "audio_encoder.encoder.pos_conv_embed.conv.weight_g": (1, 1, 128),
        "audio_encoder.encoder.pos_conv_embed.conv.weight_v": (768, 48, 128),
        "audio_encoder.encoder.layer_norm.weight": (768,),
        "audio_encoder.encoder.layer_norm.bias": (768,),
    }
    layer = "denoiser.transformer_decoder.layers.0."
    for attention in ("self_attn", "multihead_attn"):
        wanted[f"{layer}{attention}.in_proj_weight"] = (3 * d, d)
        wanted[f"{layer}{attention}.in_proj_bias"] = (3 * d,)
        wanted[f"{layer}{attention}.out_proj.weight"] = (d, d)
        wanted[f"{layer}{attention}.out_proj.bias"] = (d,)
    wanted |= {layer + "linear1.weight": (ff, d), layer + "linear1.bias": (ff,)}
    wanted |= {layer + "linear2.weight": (d, ff), layer + "linear2.bias": (d,)}
    for norm in ("norm1", "norm2", "norm3"):
        wanted |= {f"{layer}{norm}.weight": (d,), f"{layer}{norm}.bias": (d,)}
    for index, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        conv = f"audio_encoder.feature_extractor.conv_layers.{index}."
        wanted[conv + "conv.weight"] = (512, 512 if index else 1, kernel)
        if index == 0:
            wanted |= {conv + "layer_norm.weight": (512,), conv + "layer_norm.bias": (512,)}
    for index in range(12):
        layer = f"audio_encoder.encoder.layers.{index}."
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            wanted[f"{layer}attention.{projection}.weight"] = (768, 768)
            wanted[f"{layer}attention.{projection}.bias"] = (768,)
        for norm in ("layer_norm", "final_layer_norm"):
            wanted |= {f"{layer}{norm}.weight": (768,), f"{layer}{norm}.bias": (768,)}
        wanted[layer + "feed_forward.intermediate_dense.weight"] = (3072, 768)
        wanted[layer + "feed_forward.intermediate_dense.bias"] = (3072,)
        wanted[layer + "feed_forward.output_dense.weight"] = (768, 3072)
        wanted[layer + "feed_forward.output_dense.bias"] = (768,)
    return wanted


@pytest.mark.parametrize(("shape", "parameters"), [(VOCASET, 19_654_877), (BIWI, 158_887_390)])
def test_names_shapes_and_counts_are_those_of_the_published_checkpoints(shape, parameters):
    with torch.device("meta"):
        net = PaperDiffSpeaker(shape)
    spelling = {
        "parametrizations.weight.original0": "weight_g",
        "parametrizations.weight.original1": "weight_v",
    }
    pattern = re.compile("|".join(map(re.escape, spelling)))
    found = {
        pattern.sub(lambda match: spelling[match[0]], name): tuple(value.shape)
        for name, value in net.state_dict().items()
    }
    assert found == checkpoint_shapes(shape)
    assert sum(p.numel() for p in net.denoiser.parameters()) == parameters
    assert sum(p.numel() for p in net.audio_encoder.parameters()) == 94_371_712


# ---- the denoiser against an oracle: float64, loops over heads and frames, written from the rules ----------


def affine(weight, bias, x):
    return weight @ x + bias


def layer_norm(x, weight, bias):
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * weight + bias


def attention_of_one(query, keys, values, extra, parameters, prefix, heads):
    """One query (d,) over lists of keys and values (d,), with ``extra[head][k]`` added to the logits."""
    weight, bias = parameters[prefix + "in_proj_weight"], parameters[prefix + "in_proj_bias"]
    d = len(query)
    size = d // heads
    q = affine(weight[:d], bias[:d], query)
    ks = [affine(weight[d : 2 * d], bias[d : 2 * d], key) for key in keys]
    vs = [affine(weight[2 * d :], bias[2 * d :], value) for value in values]
    joined = np.zeros(d)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        logits = [q[part] @ k[part] / math.sqrt(size) + extra[head][n] for n, k in enumerate(ks)]
        weights = [math.exp(logit - max(logits)) for logit in logits]
        for share, v in zip(weights, vs, strict=True):
            joined[part] += share / sum(weights) * v[part]
    return affine(parameters[prefix + "out_proj.weight"], parameters[prefix + "out_proj.bias"], joined)


def oracle(denoiser, noisy, features, style, step):
    """The denoiser for one clip, float64: noisy (T, V·3), features (T, 768), two whole numbers."""
    shape = denoiser.shape
    p = {name: value.double().numpy() for name, value in denoiser.state_dict().items()}
    d, period, heads, frames = shape.width, shape.period, shape.heads, len(noisy)
    angle = [step * math.exp(-math.log(1e4) * i / 384) for i in range(384)]
    sinusoid = np.array([math.cos(a) for a in angle] + [math.sin(a) for a in angle])
    widened = affine(p["time_embedding.linear_1.weight"], p["time_embedding.linear_1.bias"], sinusoid)
    widened = widened / (1 + np.exp(-widened))
    step_token = affine(p["time_embedding.linear_2.weight"], p["time_embedding.linear_2.bias"], widened)
    x, audio = [], []
    for t in range(frames):
        place = np.zeros(d)
        for pair in range(d // 2):
            rate = 10_000 ** (-2 * pair / d)
            place[2 * pair] = math.sin((t % period) * rate)
            place[2 * pair + 1] = math.cos((t % period) * rate)
        x.append(affine(p["vertice_map.weight"], p["vertice_map.bias"], noisy[t]) + place)
        audio.append(affine(p["audio_feature_map.weight"], p["audio_feature_map.bias"], features[t]))
    for index in range(shape.layers):
        part = slice(index * d, (index + 1) * d)
        tokens = [p["obj_vector.weight"][style][part], step_token[part]]
        name = f"transformer_decoder.layers.{index}."
        norm = [(p[f"{name}norm{n}.weight"], p[f"{name}norm{n}.bias"]) for n in (1, 2, 3)]
        normed = [layer_norm(row, *norm[0]) for row in x]
        attended = []
        for i in range(frames):
            extra = [
                [0.0, 0.0]
                + [
                    -(4.0 ** -(h + 1)) * ((i - j) // period if j <= i else (j - i - 1) // period)
                    for j in range(frames)
                ]
                for h in range(heads)
            ]
            seen = [*tokens, *normed]
            attended.append(attention_of_one(normed[i], seen, seen, extra, p, name + "self_attn.", heads))
        x = [row + change for row, change in zip(x, attended, strict=True)]
        for i in range(frames):
            seen = [*tokens, audio[i]]
            x[i] = x[i] + attention_of_one(
                layer_norm(x[i], *norm[1]),
                seen,
                seen,
                np.zeros((heads, 3)),
                p,
                name + "multihead_attn.",
                heads,
            )
            wide = affine(p[name + "linear1.weight"], p[name + "linear1.bias"], layer_norm(x[i], *norm[2]))
            wide = np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in wide])
            x[i] = x[i] + affine(p[name + "linear2.weight"], p[name + "linear2.bias"], wide)
    return np.stack([affine(p["motion_decoder.weight"], p["motion_decoder.bias"], row) for row in x])


@pytest.mark.parametrize("frames", [1, 3, 11])
def test_the_denoiser_computes_what_its_rules_say_when_they_are_written_out_slowly(frames):
    denoiser = randomised(PaperDenoiser(TINY), seed=frames)
    generator = torch.Generator().manual_seed(frames)
    noisy = torch.randn(2, frames, TINY.channels, generator=generator)
    features = torch.randn(2, frames, 768, generator=generator)
    style, step = torch.tensor([2, 0]), torch.tensor([981, 1])
    with torch.no_grad():
        got = denoiser(noisy, features, style, step).numpy()
        exact = denoiser.double()(noisy.double(), features.double(), style, step).numpy()
    for row in range(2):
        wanted = oracle(
            denoiser,
            noisy[row].double().numpy(),
            features[row].double().numpy(),
            int(style[row]),
            int(step[row]),
        )
        assert np.abs(wanted).max() > 0.5
        # The step's sinusoid and the positions are computed in float32 in either precision.
        np.testing.assert_allclose(exact[row], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
        np.testing.assert_allclose(got[row], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_an_attention_with_every_key_in_sight_is_torchs_own():
    """The layout of the projections: query, key and value on top of each other, heads side by side."""
    denoiser = randomised(PaperDenoiser(TINY))
    ours = denoiser.transformer_decoder.layers[0].self_attn
    theirs = torch.nn.MultiheadAttention(TINY.width, TINY.heads, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    x, tokens = torch.randn(2, 9, TINY.width), torch.randn(2, 2, TINY.width)
    bias = torch.randn(TINY.heads, 9, 11)
    seen = torch.cat([tokens, x], dim=1)
    with torch.no_grad():
        wanted, _ = theirs(x, seen, seen, attn_mask=bias.repeat(2, 1, 1))
        torch.testing.assert_close(ours(x, tokens, bias), wanted, rtol=0, atol=2e-5)


def test_a_style_may_be_an_index_or_its_one_hot_vector():
    denoiser = randomised(PaperDenoiser(TINY))
    noisy, features = torch.randn(3, 5, TINY.channels), torch.randn(3, 5, 768)
    step = torch.tensor([5, 50, 500])
    index = torch.tensor([0, 2, 1])
    by_index = denoiser(noisy, features, index, step)
    by_vector = denoiser(noisy, features, torch.nn.functional.one_hot(index, 3).float(), step)
    torch.testing.assert_close(by_index, by_vector)
    assert not torch.allclose(by_index, denoiser(noisy, features, index.flip(0), step))


def test_a_new_denoiser_predicts_no_motion():
    clean = PaperDenoiser(TINY).eval()(
        torch.randn(1, 5, 21), torch.randn(1, 5, 768), torch.tensor([0]), torch.tensor([9])
    )
    assert not clean.any()


def test_training_drops_out_and_evaluation_does_not():
    denoiser = randomised(PaperDenoiser(TINY))
    given = (torch.randn(1, 5, 21), torch.randn(1, 5, 768), torch.tensor([0]), torch.tensor([9]))
    assert torch.equal(denoiser(*given), denoiser(*given))
    denoiser.train()
    assert not torch.equal(denoiser(*given), denoiser(*given))


# ---- the audio encoder -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "frames"), [(TINY, 60), (replace(TINY, frame_rate_hz=25), 50)])
def test_features_lie_on_the_frame_grid_from_the_first_hidden_state_to_the_last(shape, frames):
    net = randomised(PaperDiffSpeaker(shape, TINY_ENCODER))
    audio = torch.randn(2, 32_080)  # 100 hidden states
    with torch.no_grad():
        features = net.encode(audio)
        hidden = net.audio_encoder(normalise(audio)).last_hidden_state
    assert features.shape == (2, frames, 24)
    for frame in (0, 1, frames // 2, frames - 1):
        place = frame * 99 / (frames - 1)
        left = min(int(place), 98)
        mixed = hidden[:, left] * (left + 1 - place) + hidden[:, left + 1] * (place - left)
        torch.testing.assert_close(features[:, frame], mixed, rtol=0, atol=1e-5)


def test_audio_is_normalised_per_clip_so_its_gain_and_its_offset_do_not_matter():
    net = randomised(PaperDiffSpeaker(TINY, TINY_ENCODER))
    audio = torch.randn(2, 8_000)
    with torch.no_grad():
        torch.testing.assert_close(net.encode(audio), net.encode(0.25 * audio + 0.1), rtol=0, atol=1e-4)
    twice = normalise(normalise(audio))
    torch.testing.assert_close(twice, normalise(audio), rtol=0, atol=1e-6)


def test_the_convolutions_stay_as_pretrained_and_everything_else_learns():
    net = PaperDiffSpeaker(TINY, TINY_ENCODER)
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad == (".feature_extractor." not in name), name


@pytest.mark.parametrize("kind", [Wav2Vec2Model, HubertModel])
def test_an_encoder_is_loaded_from_a_folder_and_hubert_computes_the_same_in_wav2vec2s_class(tmp_path, kind):
    fields = {
        name: value
        for name, value in TINY_ENCODER.to_diff_dict().items()
        if name not in ("model_type", "transformers_version")
    }
    config = TINY_ENCODER if kind is Wav2Vec2Model else HubertConfig(**fields)
    pretrained = randomised(kind(config))
    pretrained.save_pretrained(tmp_path)
    encoder = load_audio_encoder(tmp_path).eval()
    assert type(encoder) is Wav2Vec2Model
    audio = torch.randn(1, 8_000)
    with torch.no_grad():
        torch.testing.assert_close(encoder(audio).last_hidden_state, pretrained(audio).last_hidden_state)


def test_a_folder_without_such_a_model_is_refused_by_name_and_nothing_is_downloaded(tmp_path):
    for folder in (tmp_path, tmp_path / "facebook" / "wav2vec2-base-960h"):
        with pytest.raises(ValueError, match=re.escape(str(folder))):
            load_audio_encoder(folder)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(ValueError, match="wav2vec2"):
        load_audio_encoder(tmp_path)


def test_both_spellings_of_weight_norm_load():
    net = randomised(PaperDiffSpeaker(TINY, TINY_ENCODER))
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in net.state_dict().items()
    }
    assert "audio_encoder.encoder.pos_conv_embed.conv.weight_g" in old
    fresh = PaperDiffSpeaker(TINY, TINY_ENCODER)
    fresh.load_state_dict(old)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


# ---- samplers and the shortcut ---------------------------------------------------------------------------


def test_the_published_steps_are_every_twentieth_from_981_down_to_1():
    assert published_steps() == list(range(981, 0, -20))
    assert published_steps(4) == [751, 501, 251, 1]


def test_the_legacy_sampler_carries_no_noise_and_ships_its_last_prediction_a_little_too_large():
    seen = []

    def denoise(x, step):
        seen.append((x, int(step[0])))
        return torch.full_like(x, float(step[0]))

    noise = torch.randn(1, 2, 3)
    out = ddim_legacy(denoise, noise, published_steps())
    assert [step for _, step in seen] == published_steps()
    assert torch.equal(seen[0][0], noise)
    for (x, step), (_, before) in zip(seen[1:], seen, strict=False):
        factor = math.sqrt(ALPHA_BAR[step]) + math.sqrt(1 - ALPHA_BAR[step])
        torch.testing.assert_close(x, torch.full_like(x, factor * before))
    torch.testing.assert_close(out, torch.full_like(out, 1.0287 * 1), rtol=0, atol=5e-5)


def test_correct_ddim_returns_the_last_prediction_itself():
    out = ddim(lambda x, step: torch.full_like(x, float(step[0])), torch.randn(1, 2, 3), published_steps())
    assert torch.equal(out, torch.full_like(out, 1.0))


@pytest.mark.parametrize(("sampler", "weights"), [(ddim, ddim_weights), (ddim_legacy, ddim_legacy_weights)])
def test_a_samplers_weights_are_what_each_of_its_steps_does(sampler, weights):
    generator = torch.Generator().manual_seed(0)
    predictions = torch.randn(50, 1, 3, 5, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, 3, 5, generator=generator, dtype=torch.float64)
    steps = published_steps()
    wanted = sampler(lambda x, step: predictions[steps.index(int(step[0]))], noise, steps)
    x = noise
    for clean, (of_clean, of_x) in zip(predictions, weights(steps), strict=True):
        x = of_clean * clean + of_x * x
    torch.testing.assert_close(x, wanted, rtol=0, atol=1e-6)


def rooms(shape):
    denoiser = randomised(PaperDenoiser(shape), seed=1)
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(2, 12, shape.channels, generator=generator)
    features = torch.randn(2, 12, 768, generator=generator)
    return denoiser, noise, features, torch.tensor([2, 1])


@pytest.mark.parametrize("sampler", [ddim, ddim_legacy, few_steps])
@pytest.mark.parametrize("vertices", [7, 200])
def test_the_folded_loop_is_the_loop(sampler, vertices):
    denoiser, noise, features, style = rooms(replace(TINY, vertices=vertices))
    steps = published_steps()
    with torch.no_grad():
        wanted = sampler(lambda x, step: denoiser(x, features, style, step), noise, steps)
        image = noise @ denoiser.vertice_map.weight.T
        got = folded.sample(denoiser, image, features, style, steps, sampler)
    difference = (got - wanted).norm() / wanted.norm()
    print(f"{sampler.__name__}, V = {vertices}: relative difference {difference:.1e}")
    assert difference < 1e-5


@pytest.mark.parametrize("vertices", [2, 200])
def test_noise_drawn_in_d_dimensions_is_distributed_as_the_image_of_noise_per_vertex(vertices):
    """Normal and linear on either side, so equal covariances are equal distributions."""
    denoiser = randomised(PaperDenoiser(replace(TINY, vertices=vertices)))
    weight = denoiser.vertice_map.weight.detach().double()
    root = folded.noise_root(denoiser).double()
    wanted = weight @ weight.T
    assert (root.T @ root - wanted).norm() / wanted.norm() < 1e-6


def test_the_moving_average_is_of_three_frames_and_of_two_at_the_ends():
    motion = torch.tensor([[0.0, 3.0, 6.0, 0.0, 0.0]])[..., None]
    assert moving_average(motion).flatten().tolist() == [1.5, 3.0, 3.0, 2.0, 0.0]
    assert moving_average(motion[:, :1]).flatten().tolist() == [0.0]
