"""LoRA Composite: the average of what the base answers with each adapter alone, at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lorastyle.adapters import Adapter, Difference, save_adapter
from lorastyle.bases import PromptEmbeds
from lorastyle.errors import ConfigError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, read_request, save_picture
from lorastyle.generate.schedulers import build_scheduler
from tests.generate.drawn import pixels_of

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest("a cat", negative_prompt="rain", seed=7, steps=3, guidance=3.0, combine="composite")


@pytest.fixture
def uses(make_adapter: MakeAdapter) -> tuple[AdapterUse, ...]:
    return tuple(AdapterUse(str(make_adapter(f"a{i}", seed=i)), 1.0 - 0.4 * i) for i in range(3))


def pixels(engine: Engine, **changes: Any) -> np.ndarray:
    return pixels_of(engine, replace(REQUEST, **changes))


def by_hand(engine: Engine, uses: tuple[AdapterUse, ...]) -> Tensor:
    """The paper's loop, adapter by adapter; the decoded picture (3, h, w) in -1..1."""
    base, bank = engine.base, engine.bank
    engine.generate(replace(REQUEST, adapters=uses, combine=None))  # attaches them
    names = [Path(use.name).stem for use in uses]
    noise = torch.randn(base.latent_channels, 8, 8, generator=torch.Generator().manual_seed(7))[None]
    scheduler = build_scheduler(None, base.pipe.scheduler)
    scheduler.set_timesteps(3)
    latents = noise * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            answers: list[Tensor] = []
            for name, use in zip(names, uses, strict=True):
                with bank.scaled({**dict.fromkeys(bank.names, 0.0), name: use.scale}):
                    words, unwanted = base.read(["a cat"], ["rain"])
                    x = scheduler.scale_model_input(torch.cat([latents] * 2), t)
                    embeds = PromptEmbeds.cat([unwanted, words])
                    plain, asked = base.predict(x, t.expand(2), embeds).chunk(2)
                answers.append(plain + 3.0 * (asked - plain))
            latents = scheduler.step(torch.stack(answers).mean(0), t, latents, return_dict=False)[0]
        return base.decode(latents)[0]


def test_it_is_the_papers_loop(engine: Engine, uses: tuple[AdapterUse, ...]) -> None:
    expected = ((by_hand(engine, uses).clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
    together = pixels(engine, adapters=uses, width=64, height=64)
    assert np.abs(together - expected).max() <= 2
    added = pixels(engine, adapters=uses, width=64, height=64, combine=None)
    assert np.abs(added - together).max() > 10


def test_one_adapter_or_none_is_as_without(engine: Engine, uses: tuple[AdapterUse, ...]) -> None:
    for some in ((), uses[:1], (uses[0], replace(uses[1], scale=0.0))):
        alone = pixels(engine, adapters=some)
        assert np.array_equal(alone, pixels(engine, adapters=some, combine=None))
    assert not np.array_equal(alone, pixels(engine))


@pytest.mark.parametrize("changes", [{"guidance": 1.0}, {"hires": 2.0}, {"scheduler": "euler a"}])
def test_pictures_of_a_batch_are_as_alone(
    engine: Engine, uses: tuple[AdapterUse, ...], changes: dict[str, Any], tmp_path: Path
) -> None:
    some = (uses[0], replace(uses[1], stop=0.5))
    engine.batch_size = 4
    request = replace(REQUEST, adapters=some, number=2, **changes)
    pictures = engine.generate(request)
    many = engine.generate_many([request, replace(REQUEST, combine=None)])[0]
    for i, picture in enumerate(pictures):
        alone = engine.generate(replace(request, seed=7 + i, number=1))[0]
        for other in (alone, many[i]):
            assert np.abs(np.asarray(picture.image).astype(int) - np.asarray(other.image)).max() <= 2
    file = tmp_path / "x.png"
    save_picture(pictures[0], file)
    assert read_request(file).combine == "composite"


def test_what_cannot_be_combined(engine: Engine, uses: tuple[AdapterUse, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allowed are composite, k-lora"):
        GenerateRequest("a", combine="switch")
    with pytest.raises(ConfigError, match="has a mask"):
        replace(REQUEST, adapters=(replace(uses[0], mask="left"),))
    path = "mid_block.attentions.0.proj_in"
    shape = engine.base.module_shapes()["unet"][path]
    dense = Adapter("w", {}, dense={"unet": {path: Difference(weight=torch.ones(shape))}})
    file = save_adapter(dense, tmp_path / "w.safetensors", dtype="float32")
    with pytest.raises(ConfigError, match="cannot be asked alone"):
        pixels(engine, adapters=(uses[0], AdapterUse(str(file))))
    engine.mode = "fused"
    with pytest.raises(ConfigError, match="mode bank"):
        pixels(engine, adapters=uses)
