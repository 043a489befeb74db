"""Adapters of one family are refused on another before the base is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file
from torch import zeros

from lorastyle.bases import peek_family
from tests.original import made, write_original
from tests.tiny import inpainting, tiny_pipeline

from .conftest import Said, write_adapter

Run = Callable[..., Said]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for family in ("sd1", "sd2", "sdxl"):
        write_original(made(family), folder / f"{family}.safetensors")
    return folder


def test_the_family_is_known_without_loading(checkpoints: Path, tiny_folder: Path) -> None:
    found = {
        family: peek_family(str(checkpoints / f"{family}.safetensors")) for family in ("sd1", "sd2", "sdxl")
    }
    assert found == {"sd1": "sd-64", "sd2": "sd-64", "sdxl": "sd-192"}  # by the width of the text, as ever
    assert peek_family(str(tiny_folder)) == "sd-16"
    assert peek_family("embedded") == "lorastyle-icons"
    assert peek_family("org/model") is None


def test_an_adapter_of_another_family_is_refused_before_loading(
    lorastyle: Run, checkpoints: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("lorastyle.bases.load_base", load)
    base = checkpoints / "sdxl.safetensors"
    said = lorastyle("generate", "a cat", "-a", "dots", "--base", base)
    assert said.code == 1 and f'the base "{base}" is' in said.err and "made for" in said.err
    write_adapter(Path("adapters/other.safetensors"))
    with pytest.raises(AssertionError, match="loaded"):
        lorastyle("generate", "a cat", "--base", base)


def test_an_inpainting_base_is_told_on_the_first_line(
    lorastyle: Run, tiny_folder: Path, pictures: Path, tmp_path: Path
) -> None:
    inpainting(tiny_pipeline(in_channels=9)).save_pretrained(tmp_path / "nine")
    mask = tmp_path / "mask.png"
    Image.new("L", (64, 64), 255).save(mask)
    drawn = ("generate", "a cat", "--steps", 2, "--init", pictures / "red-dot.png", "--mask", mask)
    said = lorastyle(*drawn, "--base", tmp_path / "nine")
    assert not said.err
    assert (said.code, said.out.splitlines()[0]) == (0, f"base: {tmp_path / 'nine'} (inpainting)")
    said = lorastyle(*drawn, "--base", tiny_folder)
    assert (said.code, said.out.splitlines()[0]) == (0, f"base: {tiny_folder}")
    said = lorastyle("train", "--images", pictures, "--base", tmp_path / "nine")
    assert said.code == 1 and "is an inpainting model" in said.err and "sibling" in said.err


def test_an_adapter_of_a_family_without_bases_is_refused(lorastyle: Run, tiny_base: str) -> None:
    name = "lora_unet_joint_blocks_0_x_block_attn_qkv"
    file = Path("tall.safetensors")
    save_file({f"{name}.lora_down.weight": zeros(4, 8), f"{name}.lora_up.weight": zeros(8, 4)}, file)
    said = lorastyle("generate", "a cat", "-a", file)
    assert said.code == 1 and "Stable Diffusion 3, which lorastyle does not draw with" in said.err
