from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lorastyle.bases import StableDiffusion, StableDiffusionXL, load_base, open_pipeline
from lorastyle.errors import BaseError
from tests.tiny import tiny_pipeline, tiny_xl_pipeline

PROMPTS = ["a cat", "a much longer dog"]


@pytest.fixture(scope="module")
def base() -> StableDiffusionXL:
    made = open_pipeline(tiny_xl_pipeline(), family="sdxl", dtype=torch.float32)
    assert isinstance(made, StableDiffusionXL)
    return made


@pytest.mark.parametrize("clip_skip", [1, 2, 3])
def test_both_encoders_and_the_pooled_sentence_are_the_pipelines_own(
    base: StableDiffusionXL, clip_skip: int
) -> None:
    """Ours counts as A1111 and kohya do: SDXL leaves out one layer anyway; diffusers counts from there."""
    if clip_skip == 3:
        with pytest.raises(BaseError, match=r"clip skip is 3; .* 1 to 2"):
            base.encode_prompts(PROMPTS, clip_skip=clip_skip)
        return
    with torch.no_grad():
        ours = base.encode_prompts(PROMPTS, clip_skip=clip_skip)
        theirs, _, pooled, _ = base.pipe.encode_prompt(PROMPTS)
    torch.testing.assert_close(ours.tokens, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=0)
    assert ours.tokens.shape == (2, 32, 40) and pooled.shape == (2, 24)
    assert not torch.allclose(ours.tokens[0], theirs[1], atol=1e-3)
    assert not torch.allclose(pooled[0], pooled[1], atol=1e-3)


def test_dropped_words_are_named_once(base: StableDiffusionXL) -> None:
    with pytest.warns(UserWarning, match="Dropped: ") as told:
        base.encode_prompts(["a " * 30 + "b c d"])
    assert len(told) == 1


def test_an_empty_negative_is_zeros_where_the_base_was_trained_so(base: StableDiffusionXL) -> None:
    with torch.no_grad():
        _, theirs, _, pooled = base.pipe.encode_prompt(PROMPTS[:1])
        _, nothing = base.read(PROMPTS[:1], [""])
        _, named = base.read(PROMPTS[:1], ["ugly"])
    assert nothing.pooled is not None and named.pooled is not None
    assert torch.equal(nothing.tokens, theirs) and torch.equal(nothing.pooled, pooled)
    assert not theirs.any() and named.tokens.any() and named.pooled.any()
    base.pipe.register_to_config(force_zeros_for_empty_prompt=False)
    try:
        with torch.no_grad():
            _, theirs, _, pooled = base.pipe.encode_prompt(PROMPTS[:1])
            _, nothing = base.read(PROMPTS[:1], [""])
        assert theirs.any()
        torch.testing.assert_close(nothing.tokens, theirs, atol=1e-5, rtol=0)
        torch.testing.assert_close(nothing.pooled, pooled, atol=1e-5, rtol=0)
    finally:
        base.pipe.register_to_config(force_zeros_for_empty_prompt=True)


def test_predict_tells_the_unet_the_sentence_and_the_framing(base: StableDiffusionXL) -> None:
    noisy, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 900])
    words = base.encode_prompts(PROMPTS)
    framed = torch.tensor([[1023.0, 777.0, 0.0, 5.0, 64.0, 64.0], [64.0, 64.0, 0.0, 0.0, 64.0, 64.0]])
    with torch.no_grad():
        whole, own = base.predict(noisy, t, words), base.predict(noisy, t, words, framed)
        expected = base.pipe.unet(
            noisy,
            t,
            encoder_hidden_states=words.tokens,
            added_cond_kwargs={"text_embeds": words.pooled, "time_ids": framed},
        ).sample
    torch.testing.assert_close(own, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole[1], own[1], atol=1e-5, rtol=0)  # it says that it is whole
    assert not torch.allclose(whole[0], own[0], atol=1e-4)


def test_time_ids_are_those_of_the_pipeline_and_stay_float32(base: StableDiffusionXL) -> None:
    """bfloat16 would make 1333 of 1336."""
    seen: list[torch.Tensor] = []

    def watch(module: object, given: tuple[torch.Tensor, ...]) -> None:
        seen.append(given[0])

    hook = base.pipe.unet.add_time_proj.register_forward_pre_hook(watch)
    rounded = StableDiffusionXL(base.pipe, family="sdxl", dtype=torch.bfloat16)
    try:
        with torch.no_grad():
            words = base.encode_prompts(PROMPTS[:1])
            ids = torch.tensor([[1333.0, 3001.0, 0.0, 5.0, 64.0, 64.0]])
            rounded.predict(torch.randn(1, 4, 8, 8), torch.tensor([5]), words, ids)
            rounded.predict(torch.randn(1, 4, 16, 8), torch.tensor([5]), words)
    finally:
        hook.remove()
    assert seen[0].dtype == torch.float32 and torch.equal(seen[0], ids.flatten())
    theirs = base.pipe._get_add_time_ids((128, 64), (0, 0), (128, 64), torch.float32, 24)
    assert torch.equal(seen[1], theirs.flatten())


def test_gradients_reach_both_text_encoders(base: StableDiffusionXL) -> None:
    weights = [next(base.components[part].parameters()) for part in ("text_encoder", "text_encoder_2")]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        embeds = base.encode_prompts(["a cat"])
        assert embeds.pooled is not None
        (embeds.tokens.sum() + embeds.pooled.sum()).backward()
        assert all(weight.grad is not None and bool(weight.grad.any()) for weight in weights)
    finally:
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None


def test_a_folder_loads_as_what_it_is(tmp_path: Path) -> None:
    pipe = tiny_xl_pipeline()
    pipe.save_pretrained(tmp_path)
    base = load_base(str(tmp_path), device="cpu", dtype=torch.float32)
    assert isinstance(base, StableDiffusionXL) and set(base.components) == {
        "unet",
        "text_encoder",
        "text_encoder_2",
    }
    for part, module in base.components.items():
        for name, value in getattr(pipe, part).state_dict().items():
            assert torch.equal(module.state_dict()[name], value), f"{part}.{name}"
    assert all(not p.requires_grad for module in base.components.values() for p in module.parameters())


def test_classes_refuse_each_others_pipelines() -> None:
    with pytest.raises(BaseError, match="open_pipeline"):
        StableDiffusion(tiny_xl_pipeline())
    refiner = tiny_xl_pipeline()
    refiner.text_encoder = None
    with pytest.raises(BaseError, match="refiner"):
        open_pipeline(refiner)
    assert type(open_pipeline(tiny_pipeline())) is StableDiffusion
