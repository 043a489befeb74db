"""Words of the prompt that claim adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lorastyle.errors import ConfigError
from lorastyle.generate import (
    AdapterUse,
    Engine,
    GenerateRequest,
    confinement,
    read_request,
    save_picture,
    with_tags_read,
)
from lorastyle.generate.confinement import Confinement, fields_of
from tests.generate.drawn import latents_of

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat on a hat, blue", negative_prompt="rain", seed=7, steps=3, guidance=3.0)


def latents(engine: Engine, *uses: AdapterUse, **changes: Any) -> Tensor:
    """(c, h, w) of the first picture."""
    return latents_of(engine, replace(REQUEST, adapters=uses, **changes))[0]


# ---- how they are written ------------------------------------------------------------------------------


def read(prompt: str, *adapters: str) -> GenerateRequest:
    uses = tuple(AdapterUse.parse(text) for text in adapters)
    return with_tags_read(GenerateRequest(prompt, adapters=uses, mixture=True))


def test_brackets_in_the_prompt() -> None:
    request = read(
        "a [fat cat:fluffy] on a [sofa:ink:0.5:te=0] <lora:paper:0.2>, [red:x/y.safetensors]", "ink2"
    )
    assert request.prompt == "a fat cat on a sofa, red" and not request.mixture
    assert request.adapters == (
        AdapterUse("ink2"),
        AdapterUse("paper", 0.2),
        AdapterUse("fluffy", words="fat cat"),
        AdapterUse("ink", 0.5, te=0.0, words="sofa"),
        AdapterUse("x/y.safetensors", words="red"),
    )
    assert read("a [cat:ink]", "ink:0.3:stop=0.5").adapters == (
        AdapterUse("ink", 0.3, stop=0.5, words="cat"),
    )
    as_it_is = GenerateRequest("a [cat:ink]")
    assert with_tags_read(as_it_is) == as_it_is  # without the flag brackets are weights


def test_it_is_recorded_with_the_adapter(tmp_path: Path, engine: Engine, cat: AdapterUse) -> None:
    use = replace(cat, words="cat")
    assert AdapterUse.parse(str(use)) == use == AdapterUse.from_dict(use.to_dict())
    picture = engine.generate(replace(REQUEST, prompt=f"a [cat:{cat.name}]", mixture=True))[0]
    save_picture(picture, tmp_path / "x.png")
    recorded = read_request(tmp_path / "x.png")
    assert recorded.prompt == "a cat" and recorded.adapters[0].words == "cat" and not recorded.mixture
    again = engine.generate(replace(recorded, adapters=(replace(use, hash=recorded.adapters[0].hash),)))[0]
    assert np.array_equal(np.asarray(again.image), np.asarray(picture.image))


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("a [cat:ink] and a [dog:ink]", "claimed or named twice"),
        ("a [cat:ink:0.5]", "claimed or named twice"),  # it is there with a scale already
        ("a [cat:]", "the name is"),
        ("a [:ink]", "words of the prompt are needed"),
        ("a [cat:paper:words=dog]", "claimed or named twice"),
        ("a [cat:paper:mask=left]", "has words and a mask"),
        ("a [cat:paper:strat=1]", 'mean "start"'),
    ],
)
def test_claims_that_cannot_be_read(prompt: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read(prompt, "ink")


def test_a_prompt_that_claims_nothing_is_told() -> None:
    with pytest.warns(UserWarning, match="claims no adapter"):
        assert read("a [cat;ink]", "ink").adapters == (AdapterUse("ink"),)


def test_what_does_not_go_together(engine: Engine, cat: AdapterUse) -> None:
    use = replace(cat, words="cat")
    with pytest.raises(ConfigError, match=r"combine is 'composite', and the adapter .* has words"):
        replace(REQUEST, adapters=(use,), combine="composite")
    with pytest.raises(ConfigError, match="mixture is 1; true or false is needed"):
        GenerateRequest("a", mixture=1)  # type: ignore[arg-type]
    before = latents(engine, cat)
    with pytest.raises(ConfigError, match=r'The words "horse" of the adapter .* are not in the prompt'):
        latents(engine, replace(cat, words="horse"))
    engine.mode = "fused"
    with pytest.raises(ConfigError, match="in a part of the picture only"):
        latents(engine, use)
    engine.mode = "bank"
    assert torch.equal(latents(engine, cat), before)


# ---- which tokens --------------------------------------------------------------------------------------


def test_the_tokens_of_words(engine: Engine) -> None:
    base = engine.base

    def places(prompt: str, words: str) -> list[int]:
        return base.places(prompt, words).nonzero().flatten().tolist()

    length = len(base.places("a", "a"))
    cat = places("a cat on a hat", "cat")
    assert cat == places("a (cat:1.3) on [a hat]", "cat") and 0 not in cat
    end = max(cat) + 1
    assert places("a cat, on a hat", "cat") == [*cat, end]  # the comma says what came before it
    assert places("a cat", "cat") == [*cat, end]  # and so does the end
    hat = places("a cat on a hat", "hat")
    assert len(hat) > 1 and min(hat) > end
    assert places("a cat on a cat", "cat") == sorted({*cat, *places("a dog on a cat", "cat")})
    assert places("a cat on a hat", "horse") == places("a cat", "") == []
    long = "stone " * 40 + ", a cat"
    assert len(base.places(long, "cat")) > length and min(places(long, "cat")) > length
    _, unwanted = base.read(["a cat"], [long])
    assert unwanted.tokens.shape[1] == len(base.places(long, "cat"))


# ---- what they draw ------------------------------------------------------------------------------------


def test_fields_share_a_place() -> None:
    maps = {"a": torch.tensor([[0.0, 0.3, 0.4, 0.5, 1.0]]), "b": torch.tensor([[0.2, 0.9, 0.1, 0.45, 0.6]])}
    fields = fields_of(maps)
    expected = torch.tensor([[0, 0, 0.5, 1 / 1.75, 0.5], [0, 1, 0, 0.75 / 1.75, 0.5]])
    torch.testing.assert_close(torch.cat(list(fields.values())), expected)


def test_a_mask_beside_a_claim_keeps_its_pixels(engine: Engine) -> None:
    mask, seen = torch.rand(64, 96), torch.rand(8, 12)
    both = Confinement(engine.bank, {"a": mask}, [], {"b": torch.ones(4)}).claimed({"b": seen})
    assert torch.equal(both.fields["a"], mask) and not both.claims
    pooled = torch.nn.functional.adaptive_avg_pool2d(both.fields["b"][None], (8, 12))[0]
    torch.testing.assert_close(pooled, fields_of({"b": seen})["b"])


def test_it_is_a_mask_that_the_plain_picture_gives(
    engine: Engine, cat: AdapterUse, dog: AdapterUse, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Mapping[str, Tensor]] = []

    def half(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        asked.append(maps)
        left = torch.zeros(8, 8)
        left[:, :4] = 1
        return dict(zip(maps, (left, 1 - left), strict=False))

    monkeypatch.setattr(confinement, "fields_of", half)
    claimed = latents(engine, replace(cat, words="cat"), width=64, height=64)
    masked = latents(engine, replace(cat, mask="left"), width=64, height=64)
    torch.testing.assert_close(claimed, masked, atol=1e-4, rtol=1e-4)
    both = latents(engine, replace(cat, words="cat"), replace(dog, words="hat"), width=64, height=64)
    right = latents(engine, replace(cat, mask="left"), replace(dog, mask="right"), width=64, height=64)
    torch.testing.assert_close(both, right, atol=1e-4, rtol=1e-4)
    mixed = latents(engine, replace(cat, words="cat"), replace(dog, mask="right"), width=64, height=64)
    torch.testing.assert_close(mixed, right, atol=1e-4, rtol=1e-4)
    assert float((both - masked).abs().mean()) > 0.05
    assert [list(maps) for maps in asked] == [["cat"], ["cat", "dog"], ["cat"]]
    assert not torch.allclose(asked[1]["cat"], asked[1]["dog"], atol=0.05)
    assert float(asked[0]["cat"].min()) == 0 and float(asked[0]["cat"].max()) == 1


@pytest.mark.parametrize(
    "changes", [{}, {"hires": 2.0}, {"guidance": 1.0}, {"negative_prompt": "rain " * 90}]
)
def test_where_it_does_not_act_all_is_as_without(
    engine: Engine, cat: AdapterUse, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Tensor] = []

    def watched(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found.append(fields_of(maps)["cat"])
        return fields_of(maps)

    monkeypatch.setattr(confinement, "fields_of", watched)
    bare, claimed = latents(engine, **changes), latents(engine, replace(cat, words="cat"), **changes)
    field = torch.nn.functional.adaptive_avg_pool2d(found[0][None], (bare.shape[1], bare.shape[2]))[0]
    if found[0].shape[-1] < bare.shape[-1]:
        field = torch.nn.functional.max_pool2d(field[None], 3, 1, 1)[0]
    assert 0.05 < float((field == 0).float().mean()) < 0.95
    assert torch.equal(claimed[:, field == 0], bare[:, field == 0])
    assert float((claimed - bare)[:, field > 0.5].abs().mean()) > 0.05


def test_each_picture_has_its_own_places(engine: Engine, cat: AdapterUse) -> None:
    engine.batch_size = 4
    request = replace(REQUEST, adapters=(replace(cat, words="cat"),), number=2)
    seen: list[tuple[int, int]] = []
    both = engine.generate(request, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 12) for i in range(1, 13)]
    many = engine.generate_many([request, REQUEST])[0]
    for i, picture in enumerate(both):
        alone = engine.generate(replace(request, seed=7 + i, number=1))[0]
        assert np.array_equal(np.asarray(picture.image), np.asarray(alone.image))
        assert np.array_equal(np.asarray(picture.image), np.asarray(many[i].image))
        assert picture.request == alone.request
