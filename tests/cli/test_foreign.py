"""What the command line says of files that lorastyle does not draw with, and recommends for others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorastyle.adapters import glance, known_modules, load_adapter
from lorastyle.adapters.families import FAMILIES, tell_family, witnesses
from lorastyle.cli.advice import Advice
from lorastyle.errors import BaseMismatchError
from tests.adapters.examples import SHAPES
from tests.adapters.test_foreign import FILES, bfl, tensors_of, write

from .conftest import Said

Run = Callable[..., Said]


def small(path: Path, name: str) -> Path:
    modules, _ = FILES[name]
    first = dict(list(modules.items())[:4])
    return write(path, tensors_of(first, "transformer.", False))


@pytest.mark.parametrize(
    "name", ["Flux.2, diffusers", "SD 3, original", "Wan, original", "Z-Image", "an unknown one"]
)
def test_every_command_says_the_same(lorastyle: Run, tmp_path: Path, name: str) -> None:
    file = small(tmp_path / "a.safetensors", name)
    title = FAMILIES[read_family(file)].title
    expected = f"it was made for {title}, and lorastyle draws with Stable Diffusion 1.x, 2.x and XL."
    for command in (
        ("info", file),
        ("inspect", file),
        ("convert", file, "b.safetensors"),
        ("verify", file, file),
        ("resize", file, "b.safetensors", "--rank", 1),
        ("library", "add", file),
    ):
        said = lorastyle(*command)
        assert said.code == 1 and expected in said.err and said.err.count("\n") == 1, (command, said.err)
    with pytest.raises(BaseMismatchError, match="it was made for"):
        load_adapter(file, SHAPES)
    assert expected in glance(file).problem


def read_family(file: Path) -> str:
    text = file.read_bytes()[8:]
    header = json.JSONDecoder().raw_decode(text.decode("latin-1"))[0]
    shapes = {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
    family = tell_family({}, witnesses(shapes))[0]
    assert family is not None
    return family


def test_convert_does_not_ask_for_the_base_of_a_transformer(lorastyle: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", tensors_of(bfl(1, 1, 3072), "lora_unet_", True))
    assert "made for:         Flux" in lorastyle("info", file).out
    said = lorastyle("convert", file, "b.safetensors")
    assert said.code == 1 and "--base" not in said.err and "it was made for Flux" in said.err
    with pytest.raises(BaseMismatchError):
        known_modules(file)


# ---- what is recommended works ----------------------------------------------------------------------------


def recommended(out: str) -> Iterator[list[str]]:
    return (line.split()[1:] for line in out.splitlines() if line.startswith("  lorastyle "))


@pytest.mark.parametrize("broken", ["", "fits no module", "whole numbers", "no base", "target is there"])
def test_inspect_recommends_only_what_works(lorastyle: Run, tmp_path: Path, broken: str) -> None:
    path = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    down, up = torch.randn(8, 640), torch.randn(640, 8)
    down[1:] *= 1e-4  # most of its rank is not used: a smaller file is worth recommending
    tensors = {f"unet.{path}.lora_A.weight": down, f"unet.{path}.lora_B.weight": up}
    metadata = {"lorastyle.base": "sdxl"}
    if broken == "fits no module":
        tensors |= {k.replace("blocks.1", "blocks.7"): t.clone() for k, t in tensors.items()}
    elif broken == "whole numbers":
        tensors |= {k.replace("to_q", "to_k"): t.to(torch.int8) for k, t in tensors.items()}
    elif broken == "no base":
        tensors = {k.replace("down_blocks.1", "input_blocks.4.1"): t for k, t in tensors.items()}
        metadata = {"lorastyle.base": "homemade"}
    elif broken == "target is there":
        (tmp_path / "for-all.safetensors").write_bytes(b"")
        (tmp_path / "smaller.safetensors").write_bytes(b"")
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    commands = list(recommended(lorastyle("inspect", "a.safetensors").out))
    assert {command[0] for command in commands} == (
        set() if broken in ("fits no module", "whole numbers", "no base") else {"convert", "resize"}
    )
    for command in commands:
        said = lorastyle(*command)
        assert said.code == 0, said.err


def test_the_base_that_was_named_is_in_the_recommendation(lorastyle: Run, tmp_path: Path) -> None:
    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {
        f"unet.{path}.lora_A.weight": torch.randn(4, 96),
        f"unet.{path}.lora_B.weight": torch.randn(96, 4),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    assert lorastyle("info", "a.safetensors").code == 0  # in that folder
    command = Advice(Path("a.safetensors"), "embedded").command("convert", "for-all")
    assert command == "lorastyle convert a.safetensors for-all.safetensors --base embedded"
    assert lorastyle(*command.split()[1:]).code == 0
    assert Advice(Path("nothing.safetensors"), None).command("convert", "for-all") is None
