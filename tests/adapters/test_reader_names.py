"""Which program looks up which names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.adapters.test_reader_rules import RANK, lora, verdicts

INSIDE, ORIGINAL = "down_blocks.1.attentions.0.proj_in", "input_blocks.4.1.proj_in"
TEXT = "text_model.encoder.layers.0.mlp.fc1"
CPP = "stable-diffusion.cpp"
# by name: who reads it
PREFIXES: Mapping[str, tuple[str, ...]] = {
    f"unet.{INSIDE}": ("Forge", "ComfyUI", "diffusers", CPP),
    INSIDE: ("Forge", "ComfyUI", CPP),
    f"unet.{ORIGINAL}": (CPP,),
    f"diffusion_model.{ORIGINAL}": ("Forge", "ComfyUI", CPP),
    f"diffusion_model.{INSIDE}": (CPP,),
    f"model.diffusion_model.{ORIGINAL}": (CPP,),
    f"lora_unet_{ORIGINAL.replace('.', '_')}": ("A1111", "Forge", "ComfyUI", "diffusers", "sd-scripts", CPP),
    f"lycoris_{INSIDE.replace('.', '_')}": ("Forge", "ComfyUI", CPP),
    f"lycoris_unet_{INSIDE.replace('.', '_')}": (CPP,),
    f"unet_{INSIDE.replace('.', '_')}": (CPP,),
    f"base_model.model.{INSIDE}": (),
    f"text_encoder.{TEXT}": ("Forge", "ComfyUI"),
    f"text_encoders.clip_l.transformer.{TEXT}": ("ComfyUI",),
    f"cond_stage_model.transformer.{TEXT}": (CPP,),
    f"te1_{TEXT.replace('.', '_')}": (CPP,),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_who_looks_a_name_up(name: str, tmp_path: Path) -> None:
    """SDXL's names, in peft's spelling or kohya's, as each program's own table of names has them."""
    down = "lora_A.weight" if name.startswith("unet.") else "lora_down.weight"
    found = verdicts(lora(name, down=down, alpha=float(RANK)), tmp_path / "a.safetensors", "sdxl")
    without_alpha = {
        key: tensor for key, tensor in lora(name, down=down).items() if not key.endswith(".alpha")
    }
    diffusers = verdicts(without_alpha, tmp_path / "b.safetensors", "sdxl")["diffusers"]
    found |= {"diffusers": diffusers}
    assert tuple(reader for reader, verdict in found.items() if verdict.read) == PREFIXES[name]
