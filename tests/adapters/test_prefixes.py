"""Any prefix of a component goes with any spelling of its modules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorastyle.adapters import known_modules, load_adapter, load_adapter_report, read_info, save_adapter
from lorastyle.errors import AdapterError, BaseMismatchError
from tests.adapters.examples import low_rank, relative_error
from tests.adapters.spellings import MODULES, SHAPES, comfy, old, old_text, text, xl_adapter

DOTTED = {
    "unet": ("unet.", "diffusion_model.", "model.diffusion_model.", "base_model.model.", "lora_unet.", ""),
    "text_encoder": (
        "text_encoder.",
        "text_encoders.clip_l.transformer.",
        "clip_l.transformer.",
        "te.",
        "te1.",
        "lora_te1.",
        "conditioner.embedders.0.transformer.",
        "cond_stage_model.transformer.",
        "base_model.model.text_encoder.",
    ),
    "text_encoder_2": (
        "text_encoder_2.",
        "text_encoders.clip_g.transformer.",
        "clip_g.",
        "te2.",
        "lora_te2.",
        "conditioner.embedders.1.model.",
    ),
}
FLAT = {
    "unet": ("lora_unet_", "lycoris_", "oft_unet_", "unet_", "diffusion_model_"),
    "text_encoder": ("lora_te_", "lora_te1_", "te1_", "lora_text_encoder_", "lycoris_te1_"),
    "text_encoder_2": ("lora_te2_", "te2_", "lora_text_encoder_2_"),
}
OPEN_CLIP = {
    "encoder.layers.0.self_attn.q_proj": None,  # q, k and v are one matrix there
    "encoder.layers.11.mlp.fc1": "transformer.resblocks.11.mlp.c_fc",
    "encoder.layers.31.self_attn.out_proj": "transformer.resblocks.31.attn.out_proj",
    "text_projection": "text_projection",
}


def spellings(component: str, path: str, stability: str) -> dict[str, str]:
    """Every name of a module, dots and all."""
    if component == "unet":
        dotted = comfy(component, path, stability).removeprefix("diffusion_model.")
        return {
            "diffusers": path,
            "Stability's": dotted,
            "before 0.20": old(path).removesuffix(".lora").removesuffix("_lora"),
        }
    names = {
        "diffusers": path,
        "text_model": text(path),
        "before 0.20": old_text(text(path)).removesuffix(".lora_linear_layer").removesuffix("_lora"),
    }
    return {**names, **({"OpenCLIP": name} if (name := OPEN_CLIP.get(path)) else {})}


def cases() -> Iterator[tuple[str, str, str, bool]]:
    """(component, prefix, spelling, whether flattened)."""
    for component in SHAPES:
        kinds = (
            ["diffusers", "Stability's", "before 0.20"]
            if component == "unet"
            else ["diffusers", "text_model", "before 0.20", "OpenCLIP"]
        )
        for kind in kinds:
            yield from ((component, prefix, kind, False) for prefix in DOTTED[component])
            yield from ((component, prefix, kind, True) for prefix in FLAT[component])


@pytest.mark.parametrize(("component", "prefix", "kind", "flat"), list(cases()))
def test_any_prefix_with_any_spelling(
    tmp_path: Path, component: str, prefix: str, kind: str, flat: bool
) -> None:
    meant = xl_adapter().components[component]
    tensors: dict[str, torch.Tensor] = {}
    wanted: set[str] = set()
    for of, path, _, stability in MODULES:
        name = spellings(component, path, stability).get(kind) if of == component else None
        if name is None:
            continue
        name = prefix + (name.replace(".", "_") if flat else name)
        down, up = (
            ("lora_down.weight", "lora_up.weight") if len(wanted) % 2 else ("lora_A.weight", "lora_B.weight")
        )
        tensors |= {f"{name}.{down}": meant[path].down, f"{name}.{up}": meant[path].up * meant[path].scale}
        wanted.add(path)
    save_file({k: t.contiguous() for k, t in tensors.items()}, tmp_path / "a.safetensors")
    adapter, report = load_adapter_report(tmp_path / "a.safetensors", SHAPES)
    assert wanted and report.complete and set(adapter.components) == {component}
    found = adapter.components[component]
    assert set(found) == wanted
    assert all(relative_error(found[path].delta(), meant[path].delta()) < 1e-6 for path in wanted)
    assert read_info(tmp_path / "a.safetensors").components.keys() == {component}


def write(path: Path, *names: str, width: int = 24) -> Path:
    tensors: dict[str, torch.Tensor] = {}
    for seed, name in enumerate(names):
        update = low_rank((24, width), 2, 2.0, seed)
        tensors |= {f"{name}.lora_A.weight": update.down, f"{name}.lora_B.weight": update.up}
    save_file(tensors, path)
    return path


def test_a_name_of_two_components_is_told_apart_by_its_size(tmp_path: Path) -> None:
    """`lycoris_` and peft's prefix do not say which text encoder they mean."""
    layer = "encoder.layers.0.mlp.fc1"
    shapes = {"text_encoder": {layer: (24, 16)}, "text_encoder_2": {layer: (24, 20)}}
    for name in (f"lycoris_text_model_{layer.replace('.', '_')}", f"base_model.model.{layer}"):
        for component, width in (("text_encoder", 16), ("text_encoder_2", 20)):
            file = write(tmp_path / "a.safetensors", name, width=width)
            assert list(load_adapter(file, shapes).components) == [component]


def test_dots_tell_apart_what_flattening_loses(tmp_path: Path) -> None:
    shapes = {"unet": {"a.b_c": (24, 24), "a_b.c": (24, 24)}}
    for path in shapes["unet"]:
        adapter = load_adapter(write(tmp_path / "a.safetensors", f"unet.{path}"), shapes)
        assert list(adapter.components["unet"]) == [path]
    with pytest.raises(AdapterError, match="its names are ambiguous"):
        load_adapter(write(tmp_path / "a.safetensors", "lora_unet_a_b_c"), shapes)


@pytest.mark.parametrize(
    "name", ["first_stage_model.encoder.conv_in", "unet", "model.layers.0.q_proj", "te1_", "vae.up_blocks.0"]
)
def test_other_names_are_no_adapters(tmp_path: Path, name: str) -> None:
    with pytest.raises(AdapterError):
        read_info(write(tmp_path / "a.safetensors", name))


def test_names_without_a_base_speak_only_where_they_are_diffusers(tmp_path: Path) -> None:
    path = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    assert known_modules(write(tmp_path / "a.safetensors", f"unet.{path}")) == {"unet": {path: None}}
    for name in ("unet.input_blocks.1.1.proj_in", f"lora_unet_{path.replace('.', '_')}"):
        with pytest.raises(AdapterError, match=r"does not say which base it was made for.*Name that base"):
            known_modules(write(tmp_path / "a.safetensors", name))


def test_the_message_says_what_was_not_found(tmp_path: Path) -> None:
    file = write(tmp_path / "a.safetensors", "unet.down_blocks.7.odd", "unet.down_blocks.8.odd")
    with pytest.raises(BaseMismatchError) as caught:
        load_adapter(file, SHAPES)
    said = str(caught.value)
    assert "there is no module called unet.down_blocks.7.odd, and none of the other 1" in said
    assert "does not tell which base it was made for" in said and "unknown base" not in said


@pytest.mark.parametrize(
    "name",
    ["text_encoder.transformer.resblocks.3.attn.in_proj", "lora_te_transformer_resblocks_3_attn_in_proj"],
)
def test_queries_keys_and_values_in_one(tmp_path: Path, name: str) -> None:
    """OpenCLIP has one matrix for the three, in this order (`torch.nn.MultiheadAttention`)."""
    layer = "encoder.layers.3.self_attn"
    shapes = {"text_encoder": {f"{layer}.{part}_proj": (16, 16) for part in ("q", "k", "v", "out")}}
    whole = low_rank((48, 16), 4, 2.0)
    tensors = {f"{name}.lora_down.weight": whole.down, f"{name}.lora_up.weight": whole.up}
    save_file({**tensors, f"{name}.alpha": torch.tensor(2.0)}, tmp_path / "a.safetensors")
    adapter, report = load_adapter_report(tmp_path / "a.safetensors", shapes)
    found = adapter.components["text_encoder"]
    assert report.complete and list(found) == [f"{layer}.{part}_proj" for part in "qkv"]
    together = torch.cat([found[f"{layer}.{part}_proj"].delta() for part in "qkv"])
    assert relative_error(together, whole.delta()) < 1e-6
    other = torch.cat([found[f"{layer}.{part}_proj"].delta() for part in "kqv"])
    assert relative_error(other, whole.delta()) > 0.5
    kohya = save_adapter(adapter, tmp_path / "b.safetensors", dtype="float32")
    assert load_adapter(kohya, shapes).components["text_encoder"].keys() == found.keys()
    odd = {f"{name}.lora_down.weight": whole.down, f"{name}.lora_up.weight": whole.up[:47].clone()}
    save_file(odd, tmp_path / "c.safetensors")
    with pytest.raises(AdapterError, match="not in thirds"):
        load_adapter(tmp_path / "c.safetensors", shapes)
