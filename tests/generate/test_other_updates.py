"""Files of other kinds than LoRA, drawn with as with any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lorastyle.adapters import (
    Adapter,
    Difference,
    Kronecker,
    LowRank,
    Update,
    load_adapter,
    save_adapter,
)
from lorastyle.bases import StableDiffusion
from lorastyle.errors import BaseMismatchError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, Picture

from .conftest import MakeAdapter


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(picture.image, int)


def test_lokr_and_norms_beside_a_lora(
    base: StableDiffusion, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    dense: dict[str, dict[str, Update]] = {}
    for component, shapes in base.module_shapes().items():
        for path, shape in shapes.items():
            if path.endswith(("to_k", "k_proj")):
                parts: Mapping[str, torch.Tensor] = {
                    "w1": torch.randn(2, 2) / 4,
                    "w2": torch.randn(shape[0] // 2, shape[1] // 2) / 4,
                }
                dense.setdefault(component, {})[path] = Kronecker(parts=parts, alpha=1.0)
            elif len(shape) == 1:
                dense.setdefault(component, {})[path] = Difference(weight=torch.randn(shape) / 4)
    adapter = Adapter("other", {}, {"lorastyle.base": "lorastyle-icons"}, dense)
    other, lora = save_adapter(adapter, tmp_path / "other.safetensors"), make_adapter("lora")
    before = {name: value.clone() for name, value in base.pipe.unet.state_dict().items()}
    engine = Engine(base)

    def draw(*uses: AdapterUse) -> np.ndarray:
        return pixels(engine.generate(GenerateRequest("a cat", seed=3, steps=2, adapters=uses))[0])

    try:
        plain = draw()
        alone, both = draw(AdapterUse(str(other))), draw(AdapterUse(str(other)), AdapterUse(str(lora)))
        assert np.abs(alone - plain).max() > 8 and np.abs(both - alone).max() > 8
        assert np.abs(draw(AdapterUse(str(lora))) - both).max() > 8
        assert (draw() == plain).all() and (draw(AdapterUse(str(other), 0.0)) == plain).all()
    finally:
        engine.bank.detach()
    after = base.pipe.unet.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_an_adapter_brings_its_word(base: StableDiffusion, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    lora = load_adapter(make_adapter("lora", strength=0.1), base.module_shapes())
    ids = base.pipe.tokenizer("cat", add_special_tokens=False).input_ids
    vectors = base.pipe.text_encoder.get_input_embeddings().weight.detach()[ids].clone()
    words = {"zq": {"text_encoder": vectors}}
    path = str(save_adapter(replace(lora, words=words), tmp_path / "word.safetensors", dtype="float32"))
    engine = Engine(base)

    def draw(prompt: str, scale: float = 1.0) -> np.ndarray:
        uses = (AdapterUse(path, scale),)
        return pixels(engine.generate(GenerateRequest(prompt, seed=3, steps=2, adapters=uses))[0])

    try:
        assert (draw("a zq") == draw("a cat")).all()
        assert (draw("a zq", 0.0) != draw("a cat", 0.0)).any()
        wide = {"zq": {"text_encoder": torch.ones(1, 99)}}
        other = save_adapter(replace(lora, words=wide), tmp_path / "wide.safetensors")
        with pytest.raises(BaseMismatchError, match="99 wide"):
            engine.generate(GenerateRequest("a cat", steps=2, adapters=(AdapterUse(str(other)),)))
        assert len(engine.bank.names) == 1
    finally:
        engine.bank.detach()
        base.set_words({})


def test_a_peft_folder_is_an_adapter_too(
    base: StableDiffusion, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    file = make_adapter("lora")
    lora = load_adapter(file, base.module_shapes())
    folder = save_adapter(lora, tmp_path / "folder", dtype="float32", format="peft")
    engine = Engine(base)

    def draw(path: Path) -> np.ndarray:
        request = GenerateRequest("a cat", seed=3, steps=2, adapters=(AdapterUse(str(path)),))
        return pixels(engine.generate(request)[0])

    try:
        first = draw(folder)
        assert np.abs(first - draw(file)).max() <= 1
        stronger = {p: LowRank(u.down, 3 * u.up, u.alpha) for p, u in lora.components["unet"].items()}
        changed = save_adapter(replace(lora, components={"unet": stronger}), tmp_path / "b", format="peft")
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            (changed / "unet" / name).replace(folder / "unet" / name)
        assert (draw(folder) != first).any()
    finally:
        engine.bank.detach()
