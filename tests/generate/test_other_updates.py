"""Files of other kinds than LoRA, drawn with as with any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from lorastyle.adapters import Adapter, Difference, Kronecker, Update, save_adapter
from lorastyle.bases import StableDiffusion
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
