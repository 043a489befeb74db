"""One adapter for SDXL, and the names that each tool gives its modules, written down by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from lorastyle.adapters import Adapter, LowRank
from tests.adapters.examples import low_rank

# component, path, weight shape, the name inside kohya's SDXL files
MODULES: tuple[tuple[str, str, tuple[int, ...], str], ...] = (
    ("unet", "conv_in", (12, 4, 3, 3), "input_blocks_0_0"),
    ("unet", "time_embedding.linear_1", (16, 12), "time_embed_0"),
    ("unet", "add_embedding.linear_2", (16, 16), "label_emb_0_2"),
    ("unet", "down_blocks.0.resnets.1.time_emb_proj", (12, 16), "input_blocks_2_0_emb_layers_1"),
    ("unet", "down_blocks.0.downsamplers.0.conv", (12, 12, 3, 3), "input_blocks_3_0_op"),
    ("unet", "down_blocks.1.resnets.0.conv_shortcut", (24, 12, 1, 1), "input_blocks_4_0_skip_connection"),
    (
        "unet",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        (24, 24),
        "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    ),
    (
        "unet",
        "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k",
        (24, 2048),
        "input_blocks_8_1_transformer_blocks_9_attn2_to_k",
    ),
    ("unet", "mid_block.attentions.0.proj_in", (24, 24), "middle_block_1_proj_in"),
    ("unet", "mid_block.resnets.1.conv2", (24, 24, 3, 3), "middle_block_2_out_layers_3"),
    (
        "unet",
        "up_blocks.0.attentions.2.transformer_blocks.3.attn1.to_out.0",
        (24, 24),
        "output_blocks_2_1_transformer_blocks_3_attn1_to_out_0",
    ),
    ("unet", "up_blocks.0.upsamplers.0.conv", (24, 24, 3, 3), "output_blocks_2_2_conv"),
    ("unet", "up_blocks.2.resnets.1.conv1", (12, 24, 3, 3), "output_blocks_7_0_in_layers_2"),
    ("unet", "conv_out", (4, 12, 3, 3), "out_2"),
    ("text_encoder", "encoder.layers.0.self_attn.q_proj", (16, 16), ""),
    ("text_encoder", "encoder.layers.11.mlp.fc1", (32, 16), ""),
    ("text_encoder_2", "encoder.layers.31.self_attn.out_proj", (20, 20), ""),
    ("text_encoder_2", "text_projection", (20, 20), ""),
)
MISSING = {"mid_block.attentions.0.proj_out": (24, 24)}  # in the model, not in the adapter
SHAPES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    component: {p: s for c, p, s, _ in MODULES if c == component} | (MISSING if component == "unet" else {})
    for component in ("unet", "text_encoder", "text_encoder_2")
}
SETTINGS = ((4, 4.0), (2, 1.0), (8, 3.0), (3, 0.5), (5, 10.0))


def xl_adapter(seed: int = 0) -> Adapter:
    """Mixed ranks and alphas, convolutions, two text encoders, and a module that it leaves alone."""
    components: dict[str, dict[str, LowRank]] = {}
    for i, (component, path, shape, _) in enumerate(MODULES):
        update = low_rank(shape, *SETTINGS[i % len(SETTINGS)], 100 * seed + i)
        components.setdefault(component, {})[path] = update
    return Adapter("xl", components, {"lorastyle.base": "sdxl", "lorastyle.trigger": "zkx"})


Speller = Callable[[str, str, str], str]


def old(path: str) -> str:
    for end, name in (("to_q", "to_q"), ("to_k", "to_k"), ("to_out.0", "to_out")):
        if path.endswith("." + end):
            return f"{path[: -len(end)]}processor.{name}_lora"
    return f"{path}.lora"


def old_text(path: str) -> str:
    for end, name in (("q_proj", "to_q"), ("out_proj", "to_out")):
        if path.endswith("." + end):
            return f"{path[: -len(end)]}{name}_lora"
    return f"{path}.lora_linear_layer"


def text(path: str) -> str:
    return path if path == "text_projection" else f"text_model.{path}"


def flat(component: str, path: str, sgm: str) -> str:
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
    inside = (sgm or path) if component == "unet" else text(path)
    return prefixes[component] + inside.replace(".", "_")


def comfy(component: str, path: str, sgm: str) -> str:
    if component != "unet":
        return (
            f"text_encoders.{'clip_l' if component == 'text_encoder' else 'clip_g'}.transformer.{text(path)}"
        )
    dotted = {
        "input_blocks_0_0": "input_blocks.0.0",
        "time_embed_0": "time_embed.0",
        "label_emb_0_2": "label_emb.0.2",
        "input_blocks_2_0_emb_layers_1": "input_blocks.2.0.emb_layers.1",
        "input_blocks_3_0_op": "input_blocks.3.0.op",
        "input_blocks_4_0_skip_connection": "input_blocks.4.0.skip_connection",
        "middle_block_1_proj_in": "middle_block.1.proj_in",
        "middle_block_2_out_layers_3": "middle_block.2.out_layers.3",
        "output_blocks_2_2_conv": "output_blocks.2.2.conv",
        "output_blocks_7_0_in_layers_2": "output_blocks.7.0.in_layers.2",
        "out_2": "out.2",
    }
    if sgm in dotted:
        return f"diffusion_model.{dotted[sgm]}"
    block, inner = sgm.split("_transformer_")[0].rsplit("_", 2), path.split("transformer_")[1]
    return f"diffusion_model.{'.'.join(block)}.transformer_{inner}"


def spelled(adapter: Adapter, name: Speller, down: str, up: str, *, alpha: str = "") -> dict[str, Tensor]:
    """The adapter's tensors; with the scale in `up` where the names have no place for alpha."""
    import torch

    sgm = {(c, p): s for c, p, _, s in MODULES}
    tensors: dict[str, Tensor] = {}
    for component, path, update in adapter.updates():
        module = name(component, path, sgm[component, path])
        tensors[f"{module}.{down}"] = update.down
        tensors[f"{module}.{up}"] = update.up if alpha else update.up * update.scale
        if alpha == "alpha":
            tensors[f"{module}.alpha"] = torch.tensor(update.alpha)
        elif alpha == "scale":
            tensors[f"{module}.scale"] = torch.tensor(update.scale)
            tensors[f"{module}.alpha"] = torch.tensor(77.0)  # which the scale overrides
    return tensors


def diffusers(component: str, path: str, sgm: str) -> str:
    return f"{component}.{path if component == 'unet' else text(path)}"


FILES: Mapping[str, Callable[[Adapter], dict[str, Tensor]]] = {
    "kohya, Stability's names": lambda a: spelled(
        a, flat, "lora_down.weight", "lora_up.weight", alpha="alpha"
    ),
    "kohya, diffusers' names": lambda a: spelled(
        a, lambda c, p, s: flat(c, p, ""), "lora_down.weight", "lora_up.weight", alpha="alpha"
    ),
    "kohya without alpha": lambda a: spelled(a, flat, "lora_down.weight", "lora_up.weight"),
    "kohya with scale": lambda a: spelled(a, flat, "lora_down.weight", "lora_up.weight", alpha="scale"),
    "diffusers before 0.20": lambda a: spelled(
        a,
        lambda c, p, s: old(p) if c == "unet" else f"{c}.{old_text(text(p))}",
        "down.weight",
        "up.weight",
    ),
    "diffusers before 0.20 with a prefix": lambda a: spelled(
        a,
        lambda c, p, s: f"{c}.{old(p) if c == 'unet' else old_text(text(p))}",
        "down.weight",
        "up.weight",
    ),
    "diffusers": lambda a: spelled(a, diffusers, "lora.down.weight", "lora.up.weight"),
    "diffusers, dotted": lambda a: spelled(a, diffusers, "lora_A.weight", "lora_B.weight"),
    "dotted with alpha": lambda a: spelled(a, diffusers, "lora_A.weight", "lora_B.weight", alpha="alpha"),
    "comfy": lambda a: spelled(a, comfy, "lora_down.weight", "lora_up.weight"),
}


def mixed(adapter: Adapter) -> dict[str, Tensor]:
    """Every module in another format than the one before."""
    tensors: dict[str, Tensor] = {}
    for i, (component, path, update) in enumerate(adapter.updates()):
        one = Adapter("one", {component: {path: update}}, {})
        tensors |= list(FILES.values())[i % len(FILES)](one)
    return tensors
