"""`lorastyle inspect`."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lorastyle.adapters import Adapter, LowRank, inspect_adapter, save_adapter
from tests.adapters.examples import low_rank

from .conftest import Said

Run = Callable[..., Said]
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
FLAT = f"lora_unet_{BLOCK.replace('.', '_')}"


@pytest.fixture
def ink(tmp_path: Path) -> Path:
    """A file for SD 1.x in the library: 1 and 3 equal directions of rank 8, and a text encoder."""

    def equal(count: int, size: int, out: int, width: int) -> LowRank:
        down, up = torch.eye(8, width), torch.eye(out, 8)
        up[count:] = 0
        return LowRank(down, size * up, 8.0)

    unet = {f"{BLOCK}.attn1.to_q": equal(1, 4, 640, 640), f"{BLOCK}.attn2.to_k": equal(3, 1, 640, 768)}
    text = {"encoder.layers.0.self_attn.q_proj": equal(1, 1, 768, 768)}
    adapter = Adapter("ink", {"unet": unet, "text_encoder": text}, {"lorastyle.base": "sd1"})
    return save_adapter(adapter, tmp_path / "home" / "adapters" / "ink.safetensors")


def row(said: Said, name: str) -> list[str]:
    (line,) = [line for line in said.out.splitlines() if line.split()[:1] == [name]]
    return line.split()


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    safetensors.torch.save_file({k: t.contiguous() for k, t in tensors.items()}, path)
    return path


def kohya(module: str) -> dict[str, Tensor]:
    update = low_rank((640, 640), 4, 4.0)
    return {f"{FLAT}_{module}.lora_down.weight": update.down, f"{FLAT}_{module}.lora_up.weight": update.up}


def test_a_page_of_a_name_in_the_library(lorastyle: Run, ink: Path) -> None:
    said = lorastyle("inspect", "ink")
    assert said.code == 0 and said.err == ""
    assert said.out.splitlines()[0] == (
        f"ink.safetensors: Stable Diffusion 1.x, kohya names, 3 modules of LoRA, "
        f"{ink.stat().st_size / 1e3:.1f} KB"
    )
    # modules, norm, share of 16 + 3 + 1, rank, effective rank (median, most), rank for 99 % (likewise)
    assert row(said, "unet") == ["unet", "2", "4.36", "95.0%", "8", "2.0", "3.0", "2", "3"]
    assert row(said, BLOCK.rsplit(".", 2)[0])[1:] == ["IN04", *row(said, "unet")[1:]]
    assert row(said, "text_encoder") == ["text_encoder", "1", "1.00", "5.0%", "8", "1.0", "1.0", "1", "1"]
    assert "Nothing wrong: no NaN" in said.out
    assert "99 % of every module fits into 21% of the numbers:" in said.out
    command = said.out.splitlines()[-1].split()
    assert command[:3] == ["lorastyle", "resize", "home/adapters/ink.safetensors"]
    assert lorastyle(*command[1:]).code == 0
    smaller = lorastyle("inspect", "smaller.safetensors")
    assert row(smaller, "unet")[4:] == ["3", "2.0", "3.0", "2", "3"] and "resize" not in smaller.out


def test_as_json(lorastyle: Run, ink: Path) -> None:
    shutil.copy(ink, "other.safetensors")
    said = lorastyle("inspect", "ink", "other.safetensors", "--json")
    assert said.code == 0
    one, other = json.loads(said.out)
    assert Path(one.pop("path")) == ink and other.pop("path") == "other.safetensors"
    assert one == json.loads(json.dumps(inspect_adapter(ink).as_dict()))
    assert one.pop("file") != other.pop("file") and one == other
    assert one["components"][0]["effective_rank_most"] == pytest.approx(3)


def test_several_files_one_of_them_bad(lorastyle: Run, ink: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.safetensors").write_text("Dear reader,")
    said = lorastyle("inspect", "letter.safetensors", ink, "nobody")
    assert said.code == 1 and "ink.safetensors: Stable Diffusion 1.x" in said.out
    first, second = said.err.splitlines()
    assert first.startswith("error: letter.safetensors: ")
    assert second.startswith('error: There is no adapter "nobody"') and "There is: ink" in second
    said = lorastyle("inspect", "letter.safetensors", ink, "--json")
    assert said.code == 1 and len(json.loads(said.out)) == 1


def test_no_file_at_all(lorastyle: Run) -> None:
    assert lorastyle("inspect").code != 0


def test_nan_is_told_by_tensor(lorastyle: Run, tmp_path: Path) -> None:
    tensors = kohya("attn1_to_q") | kohya("attn1_to_k")
    tensors[f"{FLAT}_attn1_to_k.lora_up.weight"][0, 0] = math.nan
    write(tmp_path / "a.safetensors", tensors)
    said = lorastyle("inspect", "a.safetensors")
    assert said.code == 0 and "Tensors with NaN or infinity in them: 1." in said.out
    assert f"  {FLAT}_attn1_to_k.lora_up.weight: 1 NaN of 2,560 numbers\n" in said.out
    assert "Nothing wrong" not in said.out and row(said, "unet")[1] == "2"


def test_dead_modules_are_named_and_no_more_than_asked_for(lorastyle: Run, tmp_path: Path) -> None:
    names = [f"attn{n}_to_{part}" for n in (1, 2) for part in "qkv"]
    tensors = {key: t for name in names for key, t in kohya(name).items()} | kohya("attn1_to_out_0")
    for name in names:
        tensors[f"{FLAT}_{name}.lora_up.weight"] = torch.zeros(640, 4)
    write(tmp_path / "a.safetensors", tensors)
    said = lorastyle("inspect", "a.safetensors")
    assert "Modules that change nothing: 6 of 7\n" in said.out
    assert said.out.count(": up is all zeros\n") == 5 and "  and 1 more, which --all names\n" in said.out
    assert lorastyle("inspect", "a.safetensors", "--all").out.count(": up is all zeros\n") == 6
    write(tmp_path / "b.safetensors", {k: 0 * t if "up" in k else t for k, t in tensors.items()})
    said = lorastyle("inspect", "b.safetensors")
    assert "No module changes anything, so neither does this adapter: up is all zeros\n" in said.out
    assert row(said, "unet")[2:4] == ["0", "0.0%"]


def test_what_else_there_is_to_say(lorastyle: Run, tmp_path: Path) -> None:
    tensors = {
        **kohya("attn1_to_q"),
        f"{FLAT}_attn1_to_q.diff_b": torch.ones(640),
        f"{FLAT}_attn1_to_k.oft_blocks": torch.ones(160, 4, 4),
        f"{FLAT}_attn1_to_v.lora_up.weight": torch.ones(640, 4),
        "bundle_emb.sks.string_to_param.*": torch.ones(2, 768),
        "what.is.this": torch.ones(2),
    }
    write(tmp_path / "a.safetensors", tensors)
    said = lorastyle("inspect", "a.safetensors")
    assert said.code == 0, said.err
    out = said.out
    assert "Modules whose tensors make no update: 1\n  unet " in out and "has no down factor" in out
    assert "How large OFT is depends on the base's weights: 1 module. Name one with --base.\n" in out
    assert "Modules whose bias changes too, which no share counts: 1\n" in out
    assert "Words that come with it:\n  sks: 2 vectors of width 768 for text_encoder, of a mean" in out
    assert "Tensors in no known format, which may be lost: 1\n  what.is.this\n" in out
    assert "resize" not in out  # which would refuse


def test_a_peft_folder(lorastyle: Run, ink: Path) -> None:
    assert lorastyle("convert", ink, "folder", "--format", "peft").code == 0
    said = lorastyle("inspect", "folder")
    assert said.code == 0 and "peft names, 3 modules of LoRA" in said.out
    assert row(said, "unet")[2:] == row(lorastyle("inspect", "ink"), "unet")[2:]


def test_what_other_programs_make_of_it(lorastyle: Run, ink: Path, tmp_path: Path) -> None:
    said = lorastyle("inspect", "ink")
    assert "Read whole, at its strength, by A1111, Forge, ComfyUI, diffusers" in said.out
    assert "reads" not in said.out and "lorastyle convert" not in said.out
    assert "by the rules of" in lorastyle("inspect", "ink", "--all").out

    lorastyle("convert", ink, "dotted.safetensors", "--format", "diffusers")
    said = lorastyle("inspect", "dotted.safetensors")
    assert "Read whole, at its strength, by diffusers." in said.out
    assert "A1111 reads nothing of it: names with dots are cut at the first dot" in said.out
    assert "ComfyUI reads 1 of 3 modules, at its strength.\n  2 lost: attention is looked up" in said.out
    assert "  lorastyle convert dotted.safetensors for-all.safetensors\n" in said.out
    (found,) = json.loads(lorastyle("inspect", "dotted.safetensors", "--json").out)
    states = {verdict["reader"]: (verdict["state"], verdict["strength"]) for verdict in found["readers"]}
    assert states["ComfyUI"] == ("part", [1.0, 1.0]) and states["InvokeAI"] == ("none", None)
    assert lorastyle("convert", "dotted.safetensors", "for-all.safetensors").code == 0
    mended = lorastyle("inspect", "for-all.safetensors").out
    assert "Read whole, at its strength, by A1111, Forge, ComfyUI, diffusers, InvokeAI, sd-scripts" in mended

    tensors = safetensors.torch.load_file(ink)
    module = next(key for key in tensors if key.endswith("attn1_to_q.alpha"))
    write(tmp_path / "half.safetensors", {**tensors, module: tensors[module] / 2})
    said = lorastyle("inspect", "half.safetensors")
    assert "diffusers reads all of its 3 modules, at 0.5 to 1 times its strength." in said.out
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    write(
        tmp_path / "flux.safetensors",
        {f"{name}.lora_down.weight": torch.ones(2, 8), f"{name}.lora_up.weight": torch.ones(8, 2)},
    )
    assert "sd-scripts, stable-diffusion.cpp): not judged: it is for Flux." in lorastyle(
        "inspect", "flux.safetensors"
    ).out.replace("\n  ", " ")


def test_what_depends_on_the_base_is_measured_on_it(lorastyle: Run, tiny_folder: Path) -> None:
    from lorastyle.bases import open_stored

    base = open_stored(str(tiny_folder))
    path = next(p for p in base.shapes["unet"] if p.endswith("attn1.to_q"))
    weight = base.weight("unet", path)
    flat = f"lora_unet_{path.replace('.', '_')}"
    scaled = {f"{flat}.weight": torch.full((weight.shape[1],), 0.5), f"{flat}.on_input": torch.tensor(1)}
    write(Path("scaled.safetensors"), scaled)
    asked = lorastyle("inspect", "scaled.safetensors")
    assert "How large IA3 is depends on the base's weights: 1 module. Name one with --base." in asked.out
    assert row(asked, "unet") == ["unet", "1"]  # not 0: nobody measured it
    said = lorastyle("inspect", "scaled.safetensors", "--base", tiny_folder)
    assert said.code == 0 and "depends on the base's weights" not in said.out
    assert row(said, "unet")[2] == f"{0.5 * float(weight.norm()):#.3g}"

    update = low_rank(tuple(weight.shape), 2, 2.0)
    turned = weight + update.delta()
    magnitude = 1.5 * turned.norm(dim=1, keepdim=True)
    lengths = {
        f"{flat}.lora_down.weight": update.down,
        f"{flat}.lora_up.weight": update.up,
        f"{flat}.dora_scale": magnitude,
    }
    write(Path("dora.safetensors"), lengths)
    inside = lorastyle("inspect", "dora.safetensors")
    assert "DoRA is measured without its magnitudes" in inside.out
    assert row(inside, "unet")[2] == f"{float(update.delta().norm()):#.3g}"
    said = lorastyle("inspect", "dora.safetensors", "--base", tiny_folder)
    assert "without its magnitudes" not in said.out
    assert row(said, "unet")[2] == f"{float((1.5 * turned - weight).norm()):#.3g}" != row(inside, "unet")[2]
    said = lorastyle("inspect", "dora.safetensors", "--base", "nowhere")
    assert said.code == 1 and 'There is no base "nowhere"' in said.err and said.out == ""
