"""`AND`, `[from:to:when]`, `[a|b]` and `BREAK` in pictures: what the UNet reads at which step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lorastyle.bases import PromptEmbeds, StableDiffusion
from lorastyle.errors import ConfigError
from lorastyle.generate import (
    AdapterUse,
    Engine,
    GenerateRequest,
    read_request,
    save_picture,
    with_tags_read,
)
from lorastyle.generate.conditioning import Words, rescaled
from lorastyle.generate.schedulers import build_scheduler
from lorastyle.notes import collecting
from tests.generate.drawn import latents_of, pixels_of
from tests.tiny import tiny_pipeline, tiny_xl_pipeline

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=4, guidance=3.0, width=64, height=64)


def pixels(engine: Engine, prompt: str, **changes: Any) -> np.ndarray:
    return pixels_of(engine, replace(REQUEST, prompt=prompt, **changes))


def apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.fixture
def calls(engine: Engine) -> Generator[list[PromptEmbeds]]:
    """What the UNet was asked, call by call."""
    seen: list[PromptEmbeds] = []
    predict = engine.base.predict

    def recorded(noisy: Any, timesteps: Any, embeds: PromptEmbeds, *args: Any, **more: Any) -> Any:
        seen.append(embeds)
        return predict(noisy, timesteps, embeds, *args, **more)

    engine.base.predict = recorded  # pyright: ignore[reportAttributeAccessIssue]
    yield seen
    engine.base.predict = predict


def read_as(engine: Engine, embeds: PromptEmbeds, texts: dict[str, str]) -> str:
    """Which texts the samples of a call were read from, by their letters; the negative comes first."""
    with torch.no_grad():
        known = {letter: engine.base.read([text], ["rain"])[0].tokens[0] for letter, text in texts.items()}
    rows = [[letter for letter, tokens in known.items() if torch.equal(tokens, row)] for row in embeds.tokens]
    assert all(len(letters) == 1 for letters in rows)
    return "".join(letters[0] for letters in rows)


TEXTS = {"a": "a cat", "b": "a dog", "-": "rain", "s": "snow"}


@pytest.mark.parametrize(
    ("prompt", "changes", "expected"),
    [
        ("a [cat:dog:0.5]", {}, "-a -a -b -b"),
        ("a [cat:dog:1]", {}, "-a -b -b -b"),
        ("a [cat:dog:0.0]", {}, "-b -b -b -b"),
        ("a [cat:dog:3]", {}, "-a -a -a -b"),
        ("a [cat|dog]", {}, "-a -b -a -b"),
        ("a [cat|cat|dog]", {}, "-a -a -b -a"),
        ("a [[cat|dog]:cat:2]", {}, "-a -b -a -a"),
        ("a cat AND a dog", {}, "-ab -ab -ab -ab"),
        ("a cat AND a [cat:dog:0.5]", {}, "-aa -aa -ab -ab"),
        ("a cat", {"negative_prompt": "[rain:snow:0.5]"}, "-a -a sa sa"),
        ("a [cat:dog:2]", {"guidance": 1.0}, "a a b b"),
        ("a cat AND a dog", {"guidance": 1.0}, "-ab -ab -ab -ab"),
        # Heun calls twice in each step but the last, and A1111 counts the calls: of 8, here
        ("a [cat:dog:0.5]", {"scheduler": "heun"}, "-a -a -a -a -b -b -b"),
        ("a [cat:dog:3]", {"scheduler": "heun"}, "-a -a -a -b -b -b -b"),
        # PLMS calls twice in its first step
        ("a [cat:dog:2]", {"scheduler": "pndm"}, "-a -a -a -b -b"),
        # a hires pass of 2 steps has its own, from 1.0 to 2.0
        ("a [cat:dog:1.5]", {"hires": 1.5, "hires_strength": 0.5}, "-a -a -a -a -a -b"),
        ("a [cat:dog:0.5]", {"hires": 1.5, "hires_strength": 0.5}, "-a -a -b -b -b -b"),
        ("a [cat:dog:5]", {"hires": 1.5, "hires_strength": 0.5}, "-a -a -a -a -a -b"),
        ("a [cat|cat|dog]", {"hires": 1.5, "hires_strength": 0.5}, "-a -a -b -a -a -a"),
    ],
)
def test_what_is_read_at_which_call(
    engine: Engine, calls: list[PromptEmbeds], prompt: str, changes: dict[str, Any], expected: str
) -> None:
    pixels(engine, prompt, **changes)
    assert " ".join(read_as(engine, embeds, TEXTS) for embeds in calls) == expected


@pytest.mark.parametrize("prompt", ["a cat", "a [cat] (dog:1.3) at 10:30, and [x:y] a|b", "cat " * 40])
@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_without_operators_the_base_is_asked_what_it_reads(
    engine: Engine, calls: list[PromptEmbeds], prompt: str, guidance: float
) -> None:
    """The same embeddings, once encoded, in one batch of two: the same bytes as ever."""
    pixels(engine, prompt, guidance=guidance)
    with torch.no_grad():
        wanted, unwanted = engine.base.read([prompt], ["rain"])
        if guidance == 1:
            wanted, _ = engine.base.read([prompt], [""])
    expected = torch.cat([unwanted.tokens, wanted.tokens]) if guidance > 1 else wanted.tokens
    assert len(calls) == 4 and all(embeds is calls[0] for embeds in calls)
    assert torch.equal(calls[0].tokens, expected)


def test_k_lora_chooses_by_step_whatever_is_read(
    engine: Engine, calls: list[PromptEmbeds], cat: AdapterUse, make_adapter: MakeAdapter
) -> None:
    style = AdapterUse(str(make_adapter("style", seed=1)), te=0.0)
    uses = {"adapters": (replace(cat, te=0.0), style), "combine": "k-lora"}
    edited = pixels(engine, "a [cat:dog:0.5]", **uses)
    assert " ".join(read_as(engine, embeds, TEXTS) for embeds in calls) == "-a -a -b -b"
    assert apart(edited, pixels(engine, "a [cat:dog:0.5]")) > 4


def test_shares_are_of_the_steps_that_are_taken(engine: Engine, calls: list[PromptEmbeds], init: str) -> None:
    pixels(engine, "a [cat:dog:0.5]", init=init, strength=0.5)
    assert " ".join(read_as(engine, embeds, TEXTS) for embeds in calls) == "-a -b"


def by_hand(
    base: StableDiffusion,
    read: Callable[[int], Sequence[tuple[str, float]]],
    *,
    guidance: float = 3.0,
    rescale: float = 0.0,
) -> Tensor:
    """Latents of A1111's loop, prompt by prompt: negative + sum of guidance * weight * (prompt - negative)"""
    noise = torch.randn(base.latent_channels, 8, 8, generator=torch.Generator().manual_seed(7))[None]
    scheduler = build_scheduler(None, base.pipe.scheduler)
    scheduler.set_timesteps(4)
    latents = noise * scheduler.init_noise_sigma
    with torch.no_grad():
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.scale_model_input(latents, t)
            _, unwanted = base.read([""], ["rain"])
            plain = base.predict(x, t[None], unwanted)
            answer, alone = plain.clone(), plain.clone()
            for prompt, weight in read(i):
                asked = base.predict(x, t[None], base.read([prompt], ["rain"])[0])
                answer += (asked - plain) * (weight * guidance)
                alone += (asked - plain) * weight
            answer = rescaled(answer, alone, rescale)
            latents = scheduler.step(answer, t, latents, return_dict=False)[0]
    return latents[0]


@pytest.fixture(params=["sd", "xl"])
def either(request: pytest.FixtureRequest) -> Engine:
    pipe = tiny_pipeline() if request.param == "sd" else tiny_xl_pipeline()
    from lorastyle.bases import open_pipeline

    return Engine(open_pipeline(pipe, dtype=torch.float32))


def test_pictures_are_those_of_a_loop_by_hand(either: Engine) -> None:
    def drawn(prompt: str, **changes: Any) -> Tensor:
        return latents_of(either, replace(REQUEST, prompt=prompt, **changes))[0]

    cat, dog = ("a cat", 1.0), ("a dog", 1.0)
    plain = drawn("a cat")
    reads: dict[str, Callable[[int], Sequence[tuple[str, float]]]] = {
        "a [cat:dog:0.5]": lambda i: [cat if i < 2 else dog],
        "a [cat|dog]": lambda i: [(cat, dog)[i % 2]],
        "a cat:0.7 AND a dog:-.4 AND bird": lambda _: [("a cat", 0.7), ("a dog", -0.4), ("bird", 1.0)],
    }
    for prompt, read in reads.items():
        expected = by_hand(either.base, read)
        torch.testing.assert_close(drawn(prompt), expected, atol=1e-4, rtol=0)
        assert float((plain - expected).abs().max()) > 1e-3  # the control
    both = "a cat AND a dog"
    expected = by_hand(either.base, lambda _: [cat, dog], rescale=0.7)
    torch.testing.assert_close(drawn(both, guidance_rescale=0.7), expected, atol=1e-4, rtol=0)
    expected = by_hand(either.base, lambda _: [cat, dog], guidance=1.0)
    low = drawn(both, guidance=0.5)  # counts as 1, and the negative prompt is heeded
    torch.testing.assert_close(low, expected, atol=1e-4, rtol=0)
    assert float((drawn("a cat", guidance=0.5) - expected).abs().max()) > 1e-3


def test_answers_add_up_by_their_weights() -> None:
    """One number for a picture: the negative is 10, the prompts are 11 and 14."""
    answers = torch.tensor([10.0, 11.0, 14.0])[:, None, None, None]
    embeds = PromptEmbeds(torch.zeros(1, 2, 3))

    def answer(guidance: float, *weights: float) -> float:
        words = Words((embeds,) * len(weights), embeds, weights)
        assert len(words.asked(guidance)) == words.sides(guidance)
        return float(words.answer(answers[: words.sides(guidance)], guidance, 0.0))

    assert answer(2.0, 1.0, 1.0) == 10 + 2 * (1 + 4)
    assert answer(2.0, 0.5, -1.0) == 10 + 2 * (0.5 - 4)
    assert answer(1.0, 1.0, 1.0) == 10 + 5 == answer(0.3, 1.0, 1.0)
    assert answer(2.0, 1.0) == 10 + 2 * 1
    assert answer(2.0, 3.0) == 10 + 2 * 3  # one prompt twice or more
    assert Words((embeds,), embeds).sides(1.0) == 1


def test_a_text_is_encoded_once(engine: Engine, calls: list[PromptEmbeds]) -> None:
    asked: list[str] = []
    read = engine.base.read

    def counted(prompts: Sequence[str], negatives: Sequence[str], **more: Any) -> Any:
        asked.extend((*prompts, *negatives))
        return read(prompts, negatives, **more)

    engine.base.read = counted  # pyright: ignore[reportAttributeAccessIssue]
    try:
        for _ in range(2):
            pixels(engine, "a [cat|dog] AND a cat")
        assert sorted(asked) == [" a cat", "a cat", "a dog", "rain"]
        asked.clear()
        calls.clear()
        pixels(engine, "a [cat:dog BREAK bird:3]")
        assert sorted(asked) == ["a cat", "a dog BREAK bird", "rain", "rain"]  # in one chunk and in two
    finally:
        engine.base.read = read
    # a step's length is its own: what is longer later changes nothing of the steps before
    assert [embeds.tokens.shape[1] for embeds in calls] == [32, 32, 32, 64]


def test_what_is_drawn_up_to_a_switch_is_as_without_it(engine: Engine) -> None:
    """Also where what follows has more chunks."""
    seen: dict[str, list[Tensor]] = {}
    for prompt in ("a cat", "a [cat:dog BREAK bird:0.5]", "a dog"):
        latents: list[Tensor] = seen.setdefault(prompt, [])
        scheduler_step = engine.base.predict

        def recorded(noisy: Tensor, *args: Any, keep: list[Tensor] = latents, **more: Any) -> Tensor:
            keep.append(noisy)
            return scheduler_step(noisy, *args, **more)  # noqa: B023

        engine.base.predict = recorded
        try:
            pixels(engine, prompt)
        finally:
            engine.base.predict = scheduler_step
    plain, edited, other = seen.values()
    assert all(torch.equal(plain[i], edited[i]) for i in range(3))  # the third is made by the first two
    assert not torch.equal(plain[3], edited[3]) and not torch.equal(plain[1], other[1])


@pytest.mark.parametrize(
    "prompt", ["a [cat:dog:0.5]", "a cat AND a [bird|dog]:0.5", "a cat BREAK [a dog:bird:0.5]"]
)
def test_other_ways_of_drawing(
    engine: Engine, cat: AdapterUse, make_adapter: MakeAdapter, init: str, prompt: str
) -> None:
    """Fused, in parts of the picture, with adapters asked alone, in batches: as each is without them."""
    dog = AdapterUse(str(make_adapter("dog", seed=1)))
    plain = pixels(engine, prompt, adapters=(cat,))
    # the whole picture as a region, and two halves that take the same
    assert apart(pixels(engine, prompt, adapters=(replace(cat, mask="0,0,1,1"),)), plain) <= 2
    left = pixels(engine, prompt, adapters=(replace(cat, mask="left"),))
    assert apart(left, plain) > 4 and apart(left, pixels(engine, prompt)) > 4
    base_alone = pixels(engine, prompt)
    assert apart(left[:, -8:], base_alone[:, -8:]) < apart(left[:, :8], base_alone[:, :8])
    fused = pixels_of(Engine(engine.base, bank=engine.bank, mode="fused"), replace(REQUEST, prompt=prompt))
    assert apart(fused, base_alone) <= 2
    both: dict[str, Any] = {"adapters": (cat, replace(dog, scale=0.5)), "combine": "composite"}
    composite = pixels(engine, prompt, **both)
    one = pixels(engine, prompt, adapters=(cat,), combine="composite")
    assert apart(one, plain) == 0 and apart(composite, plain) > 4
    masked = {"adapters": (replace(cat, mask="left"),), "hires": 1.5}
    for changes in (both, masked, {"init": init}):
        request = replace(REQUEST, prompt=prompt, number=2, **changes)
        for i, picture in enumerate(engine.generate(request)):
            alone = pixels_of(engine, replace(request, seed=7 + i, number=1))
            assert apart(np.asarray(picture.image), alone) <= 2


def test_composite_is_the_average_at_each_step(
    engine: Engine, cat: AdapterUse, make_adapter: MakeAdapter
) -> None:
    """Of an adapter and its twin, that is the adapter."""
    other = AdapterUse(str(make_adapter("other", seed=0, strength=0.5 + 1e-6)))
    for prompt in ("a cat AND a [dog|bird]", "a [cat:dog:0.5]"):
        alone = pixels(engine, prompt, adapters=(cat,))
        assert apart(pixels(engine, prompt, adapters=(cat, other), combine="composite"), alone) <= 2
        assert apart(pixels(engine, prompt, adapters=(cat, other)), alone) > 4


def test_requests_of_several_kinds_at_once(engine: Engine) -> None:
    prompts = ["a cat", "a [cat:dog:0.5]", "a cat AND a dog", "a dog", "a cat AND a dog:2", "a BREAK dog"]
    requests = [replace(REQUEST, prompt=prompt) for prompt in prompts]
    requests.append(replace(REQUEST, negative_prompt="[rain:snow:0.5]"))
    drawn = [np.asarray(pictures[0].image) for pictures in engine.generate_many(requests)]
    for request, picture in zip(requests, drawn, strict=True):
        assert apart(picture, pixels_of(engine, request)) <= 2
    assert min(apart(one, other) for i, one in enumerate(drawn) for other in drawn[:i]) > 2


def test_a_picture_draws_itself_again(engine: Engine, tmp_path: Path) -> None:
    prompt = "a [cat:dog:0.5] BREAK [red|blue] AND a (bird:1.2) :0.7"
    picture = engine.generate(replace(REQUEST, prompt=prompt))[0]
    again = read_request(save_picture(picture, tmp_path / "a.png"))
    assert again.prompt == prompt
    assert engine.generate(again)[0].image.tobytes() == picture.image.tobytes()


def test_adapters_named_in_an_edit_act_throughout() -> None:
    with collecting() as notes:
        request = with_tags_read(GenerateRequest("[<lora:one:0.5>:<lora:two:1>:0.5] cat"))
    assert len(notes) == 2 and all("acts at all steps" in text for text in notes)
    assert [(use.name, use.scale) for use in request.adapters] == [("one", 0.5), ("two", 1.0)]
    assert request.prompt.replace(" ", "") == "[::0.5]cat"


@pytest.mark.parametrize("prompt", ["a cat AND a dog", "a [cat:dog:0.5]", "a [cat|dog]"])
def test_words_cannot_bind_adapters_to_a_prompt_that_changes(
    engine: Engine, cat: AdapterUse, prompt: str
) -> None:
    with pytest.raises(ConfigError, match="one prompt for all steps"):
        pixels(engine, prompt, adapters=(replace(cat, words="cat"),))
    pixels(engine, "a cat BREAK a dog", adapters=(replace(cat, words="cat"),))


def test_training_reads_words_only(engine: Engine) -> None:
    with torch.no_grad():
        for text in ("a BREAK b", "a AND b", "[a:b:0.5]"):
            literal = engine.base.encode_prompts([text]).tokens
            assert torch.equal(literal, engine.base.encode_prompts([text.lower()]).tokens)
            assert literal.shape[1] == engine.base.max_tokens
