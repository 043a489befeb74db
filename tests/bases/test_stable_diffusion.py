from __future__ import annotations

import copy
import warnings

import pytest
import torch

from lorastyle.bases import StableDiffusion, compute_dtype
from lorastyle.bases import stable_diffusion as module
from lorastyle.bases.precision import cpu_has_bfloat16
from lorastyle.errors import BaseError
from tests.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def base() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), dtype=torch.float32)


def test_prompt_embeddings_are_those_of_the_pipeline(base: StableDiffusion) -> None:
    ours = base.encode_prompts(["a cat", "a much longer dog"]).tokens
    theirs, negative = base.pipe.encode_prompt(["a cat", "a much longer dog"], base.device, 1, True)
    assert ours.shape == (2, 32, 16)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, negative)
    assert not torch.equal(ours[0], ours[1])


def test_words_that_are_dropped_are_named(base: StableDiffusion) -> None:
    with pytest.warns(UserWarning, match=r'33 tokens long .* reads 30\. Dropped: "b c d"'):
        long = base.encode_prompts(["a " * 30 + "b c d"]).tokens
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(base.encode_prompts(["a " * 30]).tokens, long)
        assert not torch.equal(base.encode_prompts(["a " * 29]).tokens, long)


def test_gradients_flow_into_the_text_encoder_where_enabled(base: StableDiffusion) -> None:
    weight = next(base.pipe.text_encoder.parameters())
    weight.requires_grad_(True)
    try:
        assert base.encode_prompts(["a cat"]).tokens.requires_grad
        with torch.no_grad():
            assert not base.encode_prompts(["a cat"]).tokens.requires_grad
    finally:
        weight.requires_grad_(False)


def test_moments_and_latents_are_the_autoencoders_own(base: StableDiffusion) -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    moments = base.encode_images(pixels)
    assert moments.shape == (2, 8, 8, 8)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        own = base.pipe.vae.encode(pixels).latent_dist
    expected = (own.mean + own.std * noise) * base.pipe.vae.config.scaling_factor
    torch.testing.assert_close(base.latents(moments, noise), expected)
    assert not torch.equal(base.latents(moments, torch.zeros_like(noise)), expected)


def test_decode_is_the_inverse_scale_and_stays_in_range(base: StableDiffusion) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = base.decode(latents)
    with torch.no_grad():
        expected = base.pipe.vae.decode(latents / base.pipe.vae.config.scaling_factor).sample.clamp(-1, 1)
    assert pixels.shape == (2, 3, 64, 64)
    assert torch.equal(pixels, expected)
    assert float(pixels.abs().max()) <= 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_raise(base: StableDiffusion, bad: float) -> None:
    latents = torch.zeros(1, 4, 8, 8)
    latents[0, 0, 0, 0] = bad
    with pytest.raises(BaseError, match="not finite while drawing"):
        base.decode(latents)
    with pytest.raises(BaseError, match="not finite while encoding"):
        base.encode_images(torch.full((1, 3, 64, 64), bad))


def test_many_pictures_are_decoded_few_at_a_time_and_large_ones_in_tiles(
    base: StableDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    together, seen = base.decode(latents), list[tuple[int, bool]]()
    decode = base.pipe.vae.decode

    def watched(some: torch.Tensor) -> object:
        seen.append((len(some), base.pipe.vae.use_tiling))
        return decode(some)

    monkeypatch.setattr(base.pipe.vae, "decode", watched)
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 2 * 64 * 64)
    torch.testing.assert_close(base.decode(latents), together, atol=1e-5, rtol=0)
    monkeypatch.setattr(module, "MOST_PIXELS_WHOLE", 64 * 64 - 1)
    assert base.decode(latents).shape == together.shape
    assert seen == [(2, False), (1, False), (2, True), (1, True)]
    assert not base.pipe.vae.use_tiling


def test_predict_is_the_unet(base: StableDiffusion) -> None:
    noisy, steps, words = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), base.encode_prompts(["a", "b"])
    with torch.no_grad():
        expected = base.pipe.unet(noisy, steps, encoder_hidden_states=words.tokens).sample
        assert torch.equal(base.predict(noisy, steps, words), expected)


def test_autocast_rounds_and_answers_in_float32() -> None:
    base = StableDiffusion(tiny_pipeline(), dtype=torch.bfloat16)
    exact = StableDiffusion(base.pipe, dtype=torch.float32)
    noisy, steps, words = torch.randn(1, 4, 8, 8), torch.tensor([500]), base.encode_prompts(["a"])
    with torch.no_grad():
        rounded, expected = base.predict(noisy, steps, words), exact.predict(noisy, steps, words)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, expected)
    torch.testing.assert_close(rounded, expected, atol=0.1, rtol=0.1)


def test_weights_in_the_dtype_to_compute_in_are_called_without_autocast_unless_something_is_trained() -> None:
    pipe = tiny_pipeline()
    exact = StableDiffusion(copy.deepcopy(pipe), dtype=torch.float32)
    pipe.unet.to(torch.bfloat16)
    base, seen = StableDiffusion(pipe, dtype=torch.bfloat16), list[bool]()

    def look(*_: object) -> None:
        seen.append(torch.is_autocast_enabled("cpu"))

    pipe.unet.mid_block.register_forward_pre_hook(look)
    noisy, steps = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        words = base.encode_prompts(["a"])
        plain, expected = base.predict(noisy, steps, words), exact.predict(noisy, steps, words)
    base.predict(noisy, steps, words)
    assert seen == [False, True]
    assert plain.dtype == torch.float32
    assert not torch.equal(plain, expected)
    torch.testing.assert_close(plain, expected, atol=0.1, rtol=0.1)


def test_the_noise_schedule_is_the_schedulers(base: StableDiffusion) -> None:
    assert torch.equal(base.alphas_cumprod, base.pipe.scheduler.alphas_cumprod)
    assert base.alphas_cumprod.shape == (1000,)
    pipe = tiny_pipeline()
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, rescale_betas_zero_snr=True)
    rescaled = StableDiffusion(pipe)
    torch.testing.assert_close(rescaled.alphas_cumprod, pipe.scheduler.alphas_cumprod)
    assert float(rescaled.alphas_cumprod[-1]) < 1e-6 < float(base.alphas_cumprod[-1])


def test_modules_are_linear_conv_and_norms_with_their_shapes(base: StableDiffusion) -> None:
    shapes = base.module_shapes()
    assert shapes["unet"]["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"] == (16, 16)
    assert shapes["unet"]["conv_in"] == (16, 4, 3, 3)
    assert any(path.endswith("encoder.layers.0.self_attn.q_proj") for path in shapes["text_encoder"])
    assert shapes["unet"]["conv_norm_out"] == (16,)
    norms = {
        path for path, module in base.components["unet"].named_modules() if "Norm" in type(module).__name__
    }
    assert {path for path, shape in shapes["unet"].items() if len(shape) == 1} == norms
    assert not any("embed" in path for path in shapes["text_encoder"])
    assert {c: list(s) for c, s in shapes.items()} == base.module_names()


def test_compute_dtype_never_is_float16_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorastyle.bases.precision.cpu_has_bfloat16", lambda: True)
    assert compute_dtype("cpu") == torch.bfloat16
    monkeypatch.setattr("lorastyle.bases.precision.cpu_has_bfloat16", lambda: False)
    assert compute_dtype("cpu") == torch.float32
    assert compute_dtype("mps") == torch.float32


def test_bfloat16_is_read_off_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"avx512_bf16": False, "avx2": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert not cpu_has_bfloat16()
    found["amx_bf16"] = True
    assert cpu_has_bfloat16()
