"""Adapters of other architectures: told apart at true size, or not at all; never certain and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorastyle.adapters import glance, known_modules, load_adapter, read_info
from lorastyle.adapters.architectures import family_modules
from lorastyle.adapters.families import FAMILIES, tell_family, witnesses
from lorastyle.errors import AdapterError, LorastyleError
from tests.adapters.examples import SHAPES

Modules = dict[str, tuple[int, int]]  # (outputs, inputs)
JOINT = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
SELF = ("to_q", "to_k", "to_v", "to_out.0")


def load(file: Path) -> object:
    return load_adapter(file, SHAPES)


def blocks(stem: str, count: int, inside: dict[str, tuple[int, int]]) -> Modules:
    return {f"{stem}.{i}.{name}": size for i in range(count) for name, size in inside.items()}


def square(names: tuple[str, ...], width: int, prefix: str = "attn.") -> Modules:
    return {f"{prefix}{name}": (width, width) for name in names}


def mmdit(double: int, single: int, width: int) -> Modules:
    """As diffusers names Flux and what is built like it: attention alone."""
    return {
        **blocks("transformer_blocks", double, square(JOINT, width)),
        **blocks("single_transformer_blocks", single, square(SELF[:3], width)),
    }


def cross(stem: str, count: int, width: int, text: int | None = None) -> Modules:
    inside = {f"attn{n}.{name}": (width, width) for n in (1, 2) for name in SELF}
    for name in ("attn2.to_k", "attn2.to_v"):
        inside[name] = (width, text or width)
    return blocks(stem, count, inside)


def bfl(double: int, single: int, width: int, gates: int = 7) -> Modules:
    """Black Forest Labs' own names."""
    attention = {
        f"{part}_attn.{name}": (n * width, width)
        for part in ("img", "txt")
        for name, n in (("qkv", 3), ("proj", 1))
    }
    return {
        **blocks("double_blocks", double, attention),
        **blocks("single_blocks", single, {"linear1": (gates * width, width)}),
    }


HUNYUAN = {
    f"{part}_attn_{name}": (n * 3072, 3072)
    for part in ("img", "txt")
    for name, n in (("qkv", 3), ("proj", 1))
}
WAN = {f"{kind}_attn.{name}": (5120, 5120) for kind in ("self", "cross") for name in "qkvo"}
FILES: dict[str, tuple[Modules, str]] = {
    "Flux.1, diffusers": (mmdit(19, 38, 3072), "flux"),
    "Flux.1, diffusers, all": (
        {**mmdit(19, 38, 3072), **blocks("single_transformer_blocks", 38, {"proj_mlp": (12288, 3072)})},
        "flux",
    ),
    "Flux.1, original": (bfl(19, 38, 3072), "flux"),
    "Flux.2, diffusers": (
        {
            **blocks("transformer_blocks", 8, square(JOINT, 6144)),
            **blocks("single_transformer_blocks", 48, {"attn.to_qkv_mlp_proj": (55296, 6144)}),
        },
        "flux2",
    ),
    "Flux.2, original": (bfl(8, 48, 6144, 9), "flux2"),
    "Flux.2 Klein, original": (bfl(5, 20, 3072, 9), "flux2"),
    "Chroma": ({**bfl(19, 38, 3072), "distilled_guidance_layer.layers.0.in_layer": (5120, 64)}, "chroma"),
    "HunyuanVideo, diffusers": (mmdit(20, 40, 3072), "hunyuan_video"),
    "HunyuanVideo, original": (
        {**blocks("double_blocks", 20, HUNYUAN), **blocks("single_blocks", 40, {"linear1": (21504, 3072)})},
        "hunyuan_video",
    ),
    "HunyuanImage, diffusers": (mmdit(20, 40, 3584), "dit"),
    "Ovis-Image": (
        {**mmdit(6, 27, 3072), **blocks("single_transformer_blocks", 27, {"proj_mlp": (24576, 3072)})},
        "dit",
    ),
    "SD 3.5 medium, diffusers": (blocks("transformer_blocks", 24, square(JOINT, 1536)), "sd3"),
    "SD 3.5 large, diffusers": (blocks("transformer_blocks", 38, square(JOINT, 2432)), "sd3"),
    "SD 3, original": (blocks("joint_blocks", 24, {"x_block.attn.qkv": (4608, 1536)}), "sd3"),
    "Qwen-Image, attention": (blocks("transformer_blocks", 60, square(JOINT, 3072)), "qwen_image"),
    "Qwen-Image": (blocks("transformer_blocks", 60, {"txt_mlp.net.2": (3072, 12288)}), "qwen_image"),
    "Z-Image": (blocks("layers", 30, square(SELF, 3840, "attention.")), "z_image"),
    "Lumina 2, original": (blocks("layers", 26, {"attention.qkv": (3840, 2304)}), "lumina2"),
    "Wan, original": (blocks("blocks", 40, WAN), "wan"),
    "Wan, diffusers": (cross("blocks", 40, 5120), "wan"),
    "HunyuanDiT, diffusers": (cross("blocks", 40, 1408, 1024), "hunyuan_dit"),
    "PixArt": ({**cross("transformer_blocks", 28, 1152), "adaln_single.linear": (6912, 1152)}, "pixart"),
    "PixArt or Sana, attention": (cross("transformer_blocks", 28, 1152), "dit"),
    "Sana": (cross("transformer_blocks", 20, 2240), "sana"),
    "LTX": (cross("transformer_blocks", 28, 2048), "ltx"),
    "Cosmos": (cross("transformer_blocks", 28, 4096, 1024), "cosmos"),
    "Cosmos Predict 2": (blocks("blocks", 28, {"self_attn.q_proj": (2048, 2048)}), "cosmos"),
    "AuraFlow": (blocks("joint_transformer_blocks", 4, square(JOINT, 3072)), "aura_flow"),
    "HiDream": (
        blocks("double_stream_blocks", 16, square(("to_q", "to_q_t"), 2560, "block.attn1.")),
        "hidream",
    ),
    "CogVideoX": (blocks("transformer_blocks", 30, square(SELF, 1920, "attn1.")), "dit"),
    "an unknown one": (blocks("transformer_blocks", 12, square(SELF, 1234)), "dit"),
}
PREFIXES = {
    "diffusers": ("transformer.", False),
    "peft": ("base_model.model.", False),
    "ComfyUI": ("diffusion_model.", False),
    "kohya": ("lora_unet_", True),
    "SimpleTuner": ("lycoris_", True),
    "OneTrainer": ("lora_transformer_", True),
}


def tensors_of(modules: Modules, prefix: str, flat: bool) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for name, (out, into) in modules.items():
        spelled = prefix + (name.replace(".", "_") if flat else name)
        found |= {f"{spelled}.lora_down.weight": (4, into), f"{spelled}.lora_up.weight": (out, 4)}
    return found


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", FILES)
def test_an_architecture_is_told_or_unknown(name: str, prefix: str) -> None:
    modules, meant = FILES[name]
    family, _, sure, _ = tell_family({}, witnesses(tensors_of(modules, *PREFIXES[prefix])))
    assert family == meant and sure == ("unknown" if meant == "dit" else "likely")
    assert not FAMILIES[meant].drawn


def stable(family: str) -> dict[str, tuple[int, ...]]:
    listed = family_modules(family)
    assert listed is not None
    unet = {f"unet.{path}": shape for path, shape in listed["unet"].items() if len(shape) > 1}
    return {f"{path}.lora_down.weight": (4, *shape[1:]) for path, shape in unet.items()}


def test_sdxls_unet_may_be_that_of_kolors() -> None:
    """They differ in one layer, which few files have; only what shows it is certain."""
    attention = {k: s for k, s in stable("sdxl").items() if "attn" in k}
    assert tell_family({}, witnesses(attention))[:3] == ("sdxl", "names", "likely")
    assert tell_family({"ss_base_model_version": "sdxl_base_v1-0"}, witnesses(attention))[2] == "certain"
    assert tell_family({"modelspec.architecture": "kolors/lora"}, witnesses(attention))[0] == "kolors"
    text = {**attention, "text_encoder_2.text_model.encoder.layers.0.mlp.fc1.lora_down.weight": (4, 1280)}
    assert tell_family({}, witnesses(text))[:3] == ("sdxl", "names", "certain")
    for layer, shape in (("add_embedding.linear_1", (4, 5632)), ("encoder_hid_proj", (4, 4096))):
        kolors = {**attention, f"unet.{layer}.lora_down.weight": shape}
        assert tell_family({}, witnesses(kolors))[0] == "kolors"
    glm = {
        **attention,
        "text_encoder.encoder.layers.0.self_attention.query_key_value.lora_down.weight": (4, 4096),
    }
    assert tell_family({}, witnesses(glm))[0] == "kolors"
    assert tell_family({}, witnesses(stable("sdxl")))[0] == "sdxl"


def test_a_third_text_encoder_is_none_of_sdxls() -> None:
    keys = [f"lora_te{n}_text_model_encoder_layers_0_mlp_fc1.lora_down.weight" for n in (1, 2)]
    both = {key: (4, 768) for key in keys}
    assert tell_family({}, witnesses(both))[:3] == ("sdxl", "names", "likely")
    third = {**both, "lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight": (4, 4096)}
    assert tell_family({}, witnesses(third))[0] == "dit"


def test_a_list_says_what_info_says(tmp_path: Path) -> None:
    """Lists look at the header's text alone where they can."""
    some = [tensors_of(modules, "lora_unet_", True) for modules, _ in FILES.values()]
    some += [stable("sd1"), stable("sdxl")]
    for shapes in some:
        few = {k: torch.zeros(*s[:2], dtype=torch.uint8)[:4] for k, s in list(shapes.items())[::7]}
        save_file(few, file := tmp_path / "a.safetensors")
        assert glance(file).family == read_info(file).family


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_what_is_stable_diffusion_stays_so(family: str) -> None:
    assert tell_family({}, witnesses(stable(family)))[:3] == (family, "text width", "certain")
    video = {**stable(family), "unet.down_blocks.0.motion_modules.0.proj_in.lora_down.weight": (4, 320)}
    assert tell_family({}, witnesses(video))[0] == "video"
    lying = tell_family({"ss_base_model_version": "flux1"}, witnesses(stable(family)))
    assert lying[0] == family


@pytest.mark.parametrize(
    ("key", "word", "family"),
    [
        ("ss_base_model_version", "wan2.2", "wan"),
        ("ss_base_model_version", "qwen_image", "qwen_image"),
        ("ss_base_model_version", "zimage", "z_image"),
        ("ss_base_model_version", "sd_1.5", "sd1"),
        ("modelspec.architecture", "flux-1-dev/lora", "flux"),
        ("modelspec.architecture", "Flux.2-dev/lora", "flux2"),
        ("modelspec.architecture", "hunyuan-video/lora", "hunyuan_video"),
        ("modelspec.architecture", "stable-diffusion-xl-v1-base/lora", "sdxl"),
    ],
)
def test_what_trainers_call_their_base(key: str, word: str, family: str) -> None:
    unsure = {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": (4, 999)}
    seen = witnesses(unsure if family not in ("sd1", "sdxl") else {})
    assert tell_family({key: word}, seen)[0] == family


def write(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        (["emb_params"], "a textual inversion"),
        (["clip_l", "clip_g"], "a textual inversion"),
        (["<cat>"], "a textual inversion"),
        (["weight.x"], "no adapter in a format"),
        (["control_model.input_hint_block.0.weight"], "a ControlNet"),
        (["first_stage_model.decoder.conv_in.weight"], "a whole checkpoint"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, keys: list[str], why: str) -> None:
    file = write(tmp_path / "a.safetensors", {key: (2, 768) for key in keys})
    for read in (read_info, load):
        with pytest.raises(AdapterError, match=why):
            read(file)


def test_every_error_is_one_of_ours(tmp_path: Path) -> None:
    """Odd names, sizes and types end in a sentence, whatever reads them."""
    random = torch.Generator().manual_seed(0)
    words = ("transformer", "double_blocks", "0", "attn", "to_q", "unet", "lora_te2_", "blocks", "x")
    for _ in range(200):
        picked = [words[int(i)] for i in torch.randint(len(words), (4,), generator=random)]
        key = ".".join(picked) + (".lora_A.weight", ".weight", ".alpha", ".scale_weight")[len(picked[0]) % 4]
        file = write(tmp_path / "a.safetensors", {key: (3, 5)})
        for read in (read_info, known_modules, load, glance):
            try:
                read(file)
            except LorastyleError as error:
                assert str(error)


@pytest.mark.parametrize("word", ["te2_", "unet.", "double_blocks_", "9", "base_model.model.", "lora_te2_x_"])
def test_names_without_end(tmp_path: Path, word: str) -> None:
    """What looks at a name takes time that grows with it, and no more: this would take hours."""
    long = word * 50_000
    for key in (long, f"double_blocks.{long}", f"lora_unet_transformer_blocks_{long}_x"):
        file = write(tmp_path / "a.safetensors", {f"{key}.lora_down.weight": (2, 3)})
        for read in (read_info, load, glance):
            try:
                read(file)
            except LorastyleError as error:
                assert str(error)
