"""K-LoRA: layer by layer the subject's update or the style's, at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lorastyle.adapters import Adapter, BlockWeights, Difference, save_adapter, turning_points
from lorastyle.bases import PromptEmbeds
from lorastyle.errors import AdapterError, ConfigError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, read_request, save_picture
from lorastyle.generate.schedulers import build_scheduler
from tests.adapters.examples import low_rank
from tests.generate.drawn import pixels_of

MakeAdapter = Callable[..., Path]
REQUEST = GenerateRequest(
    "a cat", seed=7, steps=4, guidance=3.0, width=64, height=64, negative_prompt="rain", combine="k-lora"
)


@pytest.fixture
def uses(make_adapter: MakeAdapter) -> tuple[AdapterUse, ...]:
    """A subject and a style that changes some layers less than others do."""
    return tuple(AdapterUse(str(make_adapter(f"a{i}", seed=i)), 1.0 - 0.4 * i) for i in range(2))


def pixels(engine: Engine, **changes: Any) -> np.ndarray:
    return pixels_of(engine, replace(REQUEST, **changes))


def by_hand(engine: Engine, uses: tuple[AdapterUse, ...]) -> Tensor:
    """The same with block weights set before each step; the decoded picture (3, h, w) in -1..1."""
    base, bank = engine.base, engine.bank
    engine.generate(replace(REQUEST, adapters=uses, combine=None))  # attaches them
    names = [Path(use.name).stem for use in uses]
    points = turning_points(bank.export(names[0]), bank.export(names[1]))
    noise = torch.randn(base.latent_channels, 8, 8, generator=torch.Generator().manual_seed(7))[None]
    scheduler = build_scheduler(None, base.pipe.scheduler)
    scheduler.set_timesteps(4)
    latents = noise * scheduler.init_noise_sigma
    with torch.no_grad(), bank.scaled({name: use.scale for name, use in zip(names, uses, strict=True)}):
        words, unwanted = base.read(["a cat"], ["rain"])
        for i, t in enumerate(scheduler.timesteps):
            late = {path: float(i / 4 >= turn) for path, turn in points.items()}
            early = {path: 1 - on for path, on in late.items()}
            off = [
                BlockWeights({}, paths={f"unet.{p}": on for p, on in one.items()}) for one in (early, late)
            ]
            bank.set_block_weights(dict(zip(names, off, strict=True)))
            x = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            plain, asked = base.predict(x, t.expand(2), PromptEmbeds.cat([unwanted, words])).chunk(2)
            latents = scheduler.step(plain + 3.0 * (asked - plain), t, latents, return_dict=False)[0]
        bank.set_block_weights(dict.fromkeys(names))
        return base.decode(latents)[0]


def test_each_layer_has_one_of_the_two(engine: Engine, uses: tuple[AdapterUse, ...]) -> None:
    expected = ((by_hand(engine, uses).clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()
    chosen = pixels(engine, adapters=uses)
    assert np.abs(chosen - expected).max() <= 2
    assert np.abs(chosen - pixels(engine, adapters=uses, combine=None)).max() > 10
    assert np.abs(chosen - pixels(engine, adapters=uses[::-1])).max() > 10  # the first is the subject
    assert np.array_equal(chosen, pixels(engine, adapters=uses))  # nothing is left behind


def test_where_one_is_off_the_other_acts(engine: Engine, uses: tuple[AdapterUse, ...]) -> None:
    alone = pixels(engine, adapters=uses[:1], combine=None)
    off = replace(uses[1], blocks="UNET:0", te=0.0)
    # the rows of the other are closed, but stacked: products of another shape, which may round otherwise
    assert np.abs(alone - pixels(engine, adapters=(uses[0], off))).max() <= 2
    later = replace(uses[1], start=0.99, te=0.0)
    assert np.abs(alone - pixels(engine, adapters=(uses[0], later))).max() <= 2
    half = replace(uses[1], start=0.5)
    assert np.abs(alone - pixels(engine, adapters=(uses[0], half))).max() > 5
    assert np.abs(pixels(engine, adapters=(uses[0], half)) - pixels(engine, adapters=uses)).max() > 5


def test_pictures_of_a_batch_are_as_alone(
    engine: Engine, uses: tuple[AdapterUse, ...], tmp_path: Path
) -> None:
    request = replace(REQUEST, adapters=uses, number=2)
    pictures = engine.generate(request)
    plain = replace(REQUEST, adapters=uses, combine=None)
    many = engine.generate_many([request, plain])
    for i, picture in enumerate(pictures):
        alone = engine.generate(replace(request, seed=7 + i, number=1))[0]
        for other in (alone, many[0][i]):
            assert np.abs(np.asarray(picture.image).astype(int) - np.asarray(other.image)).max() <= 2
    assert np.abs(np.asarray(many[1][0].image).astype(int) - np.asarray(pictures[0].image)).max() > 10
    file = tmp_path / "x.png"
    save_picture(pictures[0], file)
    assert read_request(file).combine == "k-lora"


def test_what_cannot_be_chosen(engine: Engine, uses: tuple[AdapterUse, ...], tmp_path: Path) -> None:
    before = pixels(engine, adapters=uses)
    with pytest.raises(ConfigError, match=r"on the UNet act 1 .* Name two"):
        pixels(engine, adapters=(uses[0], replace(uses[1], unet=0.0)))
    with pytest.raises(ConfigError, match="on the UNet act 0"):
        pixels(engine, adapters=())
    path = "mid_block.attentions.0.proj_in"
    dense = Adapter(
        "w",
        {},
        dense={"unet": {path: Difference(weight=torch.ones(engine.base.module_shapes()["unet"][path]))}},
    )
    file = save_adapter(dense, tmp_path / "w.safetensors", dtype="float32")
    with pytest.raises(ConfigError, match="cannot be chosen step by step"):
        pixels(engine, adapters=(uses[0], AdapterUse(str(file))))
    shape = engine.base.module_shapes()["unet"]["conv_in"]
    other = Adapter("o", {"unet": {"conv_in": low_rank(shape, 2, 1.0)}})
    other = save_adapter(other, tmp_path / "o.safetensors")
    with pytest.raises(AdapterError, match="no module of the unet that both change"):
        pixels(engine, adapters=(AdapterUse(str(other)), AdapterUse(str(file), 0.0), uses[1]))
    engine.mode = "fused"
    with pytest.raises(ConfigError, match="mode bank"):
        pixels(engine, adapters=uses)
    engine.mode = "bank"
    assert np.array_equal(before, pixels(engine, adapters=uses))
