"""Checkpoints in one file under their makers' names, written from diffusers pipelines, for tests.

The other way round than `lorastyle.bases.single_file` reads them, and with no code of it: block numbers are
counted along diffusers' modules. With them, tiny pipelines that keep what the real ones fix: 32 groups, heads
of 64 channels (or eight of them), CLIP's 49,408 words.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.tiny import inpainting, seeded

Tensors = dict[str, Tensor]

_SCHEDULE: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def sd1_pipeline(words: CLIPTokenizer, *, seed: int = 0, **unet: Any) -> StableDiffusionPipeline:
    """Eight heads, convolutions around attention, attention at the first of two levels."""
    with seeded(seed):
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel(
                **{
                    "sample_size": 64,
                    "block_out_channels": (32, 64),
                    "layers_per_block": 2,
                    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
                    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
                    "cross_attention_dim": 64,
                    **unet,
                }
            ),
            "vae": _vae(),
            "text_encoder": CLIPTextModel(_text(64, "quick_gelu")),
        }
    scheduler = PNDMScheduler(**_SCHEDULE, skip_prk_steps=True)
    return _shaken(StableDiffusionPipeline(**parts, **_plain(words), scheduler=scheduler), seed)


def sd2_pipeline(
    words: CLIPTokenizer, *, prediction_type: str = "v_prediction", seed: int = 0, **unet: Any
) -> StableDiffusionPipeline:
    """Heads of 64, Linears around attention, OpenCLIP's activation."""
    with seeded(seed):
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel(
                sample_size=96,
                block_out_channels=(64, 128),
                layers_per_block=1,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=64,
                attention_head_dim=(1, 2),
                use_linear_projection=True,
                upcast_attention=True,
                **unet,
            ),
            "vae": _vae(),
            "text_encoder": CLIPTextModel(_text(64, "gelu")),
        }
    scheduler = DDIMScheduler(
        **_SCHEDULE, prediction_type=prediction_type, clip_sample=False, set_alpha_to_one=False
    )
    return _shaken(StableDiffusionPipeline(**parts, **_plain(words), scheduler=scheduler), seed)


def sdxl_pipeline(
    words: CLIPTokenizer, more: CLIPTokenizer, *, seed: int = 0, **unet: Any
) -> StableDiffusionXLPipeline:
    """Two text encoders (64 and 128 wide, the sentence 96); attention at the second level only, two deep."""
    with seeded(seed):
        vae = _vae()
        vae.register_to_config(scaling_factor=0.13025)
        second = _text(128, "gelu", projection_dim=96)
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel(
                sample_size=128,
                block_out_channels=(32, 64),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2),
                cross_attention_dim=64 + 128,
                attention_head_dim=(1, 1),
                use_linear_projection=True,
                addition_embed_type="text_time",
                addition_time_embed_dim=16,
                projection_class_embeddings_input_dim=96 + 6 * 16,
                **unet,
            ),
            "vae": vae,
            "text_encoder": CLIPTextModel(_text(64, "quick_gelu")),
            "text_encoder_2": CLIPTextModelWithProjection(second),
        }
    pipe = StableDiffusionXLPipeline(
        **parts,
        tokenizer=words,
        tokenizer_2=more,
        scheduler=EulerDiscreteScheduler(**_SCHEDULE, timestep_spacing="leading"),
        add_watermarker=False,
    )
    return _shaken(pipe, seed)


@cache
def made(family: str, in_channels: int = 4) -> Any:
    """The pipeline of "sd1", "sd2" or "sdxl" that files are written from; nobody changes it."""
    from lorastyle.bases.clip_words import clip_tokenizer

    words, more = clip_tokenizer(), clip_tokenizer(pad="!")
    if family == "sdxl":
        pipe = sdxl_pipeline(words, more, in_channels=in_channels)
    elif family == "sd1":
        pipe = sd1_pipeline(words, in_channels=in_channels)
    else:
        pipe = sd2_pipeline(more, in_channels=in_channels)
    return inpainting(pipe) if in_channels == 9 else pipe


def weights(pipe: Any) -> Tensors:
    """Every weight of a pipeline, by "part.name"."""
    return {
        f"{part}.{name}": weight
        for part, module in pipe.components.items()
        if isinstance(module, nn.Module)
        for name, weight in module.state_dict().items()
    }


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> set[str]:
    """Names of weights that are not bit for bit the same in both."""
    same = {name for name in one.keys() & other.keys() if torch.equal(one[name], other[name])}
    return (one.keys() | other.keys()) - same


def write_original(
    pipe: Any,
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    ema: bool = False,
    metadata: Mapping[str, str] | None = None,
    change: Mapping[str, Tensor | None] | None = None,
) -> Path:
    """Write the pipeline to one file.

    Args:
        ema: add averaged weights of other values under `model_ema.`, as CompVis' training did.
        change: tensors to add or replace by name; None takes one away.
    """
    tensors = {name: tensor.to(dtype) for name, tensor in original_tensors(pipe).items()}
    if ema:
        inside = [name for name in tensors if name.startswith("model.diffusion_model.")]
        for name in inside:
            tensors[f"model_ema.{name.removeprefix('model.').replace('.', '')}"] = tensors[name] + 1
        tensors["model_ema.decay"] = torch.tensor(0.9999)
        tensors["model_ema.num_updates"] = torch.tensor(470000, dtype=torch.int32)
    for name, tensor in (change or {}).items():
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    save_file({n: t.contiguous().clone() for n, t in tensors.items()}, path, metadata=dict(metadata or {}))
    return path


def original_tensors(pipe: Any) -> Tensors:
    """Every tensor of the file; on the meta device where the pipeline is."""
    tensors = {f"model.diffusion_model.{name}": t for name, t in unet_tensors(pipe.unet).items()}
    tensors |= {f"first_stage_model.{name}": t for name, t in vae_tensors(pipe.vae).items()}
    steps = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    tensors["alphas_cumprod"] = (1 - steps).cumprod(0).float()
    first = clip_tensors(pipe.text_encoder)
    if hasattr(pipe, "text_encoder_2"):
        tensors |= {f"conditioner.embedders.0.transformer.{name}": t for name, t in first.items()}
        second = open_clip_tensors(pipe.text_encoder_2)
        tensors |= {f"conditioner.embedders.1.model.{name}": t for name, t in second.items()}
    elif pipe.text_encoder.config.hidden_act == "gelu":
        tower = open_clip_tensors(pipe.text_encoder)
        last = pipe.text_encoder.config.num_hidden_layers
        # the block that nobody reads, and the projection that comes after it
        for name in [name for name in tower if name.startswith("transformer.resblocks.0.")]:
            tower[name.replace(".0.", f".{last}.", 1)] = torch.full_like(tower[name], 7)
        width = pipe.text_encoder.config.hidden_size
        tower["text_projection"] = torch.full((width, width), 7.0)
        tensors |= {f"cond_stage_model.model.{name}": t for name, t in tower.items()}
    else:
        tensors |= {f"cond_stage_model.transformer.{name}": t for name, t in first.items()}
    return tensors


def unet_tensors(unet: Any) -> Tensors:
    """Under the names of CompVis' UNetModel."""
    names = {
        "time_embed.0": unet.time_embedding.linear_1,
        "time_embed.2": unet.time_embedding.linear_2,
        "input_blocks.0.0": unet.conv_in,
        "out.0": unet.conv_norm_out,
        "out.2": unet.conv_out,
    }
    if getattr(unet, "add_embedding", None) is not None:
        names |= {"label_emb.0.0": unet.add_embedding.linear_1, "label_emb.0.2": unet.add_embedding.linear_2}
    tensors = {f"{path}.{leaf}": t for path, m in names.items() for leaf, t in m.state_dict().items()}

    number = 1
    for block in unet.down_blocks:
        for resnet, attention in _pairs(block):
            tensors |= _resnet(f"input_blocks.{number}.0", resnet)
            tensors |= _inside(f"input_blocks.{number}.1", attention)
            number += 1
        if block.downsamplers:
            tensors |= _inside(f"input_blocks.{number}.0.op", block.downsamplers[0].conv)
            number += 1
    if unet.mid_block is not None:
        resnets, attentions = list(unet.mid_block.resnets), list(getattr(unet.mid_block, "attentions", []))
        tensors |= _resnet("middle_block.0", resnets[0])
        if len(resnets) > 1:
            tensors |= _inside("middle_block.1", attentions[0]) | _resnet("middle_block.2", resnets[1])
    number = 0
    for block in unet.up_blocks:
        pairs = list(_pairs(block))
        for index, (resnet, attention) in enumerate(pairs):
            tensors |= _resnet(f"output_blocks.{number}.0", resnet)
            tensors |= _inside(f"output_blocks.{number}.1", attention)
            if index == len(pairs) - 1 and block.upsamplers:
                place = 1 if attention is None else 2
                tensors |= _inside(f"output_blocks.{number}.{place}.conv", block.upsamplers[0].conv)
            number += 1
    return tensors


def vae_tensors(vae: Any, *, attention: tuple[str, str, str, str] = ("q", "k", "v", "proj_out")) -> Tensors:
    """Under the names of CompVis' AutoencoderKL, whose attention is made of convolutions of 1 x 1."""
    tensors = _inside("quant_conv", vae.quant_conv) | _inside("post_quant_conv", vae.post_quant_conv)
    for side, part in (("encoder", vae.encoder), ("decoder", vae.decoder)):
        for old, new in (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out")):
            tensors |= _inside(f"{side}.{old}", getattr(part, new))
        for index in (0, 1):
            tensors |= _vae_resnet(f"{side}.mid.block_{index + 1}", part.mid_block.resnets[index])
        middle = part.mid_block.attentions[0]
        tensors |= _inside(f"{side}.mid.attn_1.norm", middle.group_norm)
        layers = (middle.to_q, middle.to_k, middle.to_v, middle.to_out[0])
        for name, layer in zip(attention, layers, strict=True):
            tensors[f"{side}.mid.attn_1.{name}.weight"] = layer.weight.detach()[:, :, None, None]
            tensors[f"{side}.mid.attn_1.{name}.bias"] = layer.bias.detach()
        levels = list(part.down_blocks) if side == "encoder" else list(part.up_blocks)[::-1]
        for level, block in enumerate(levels):
            way = "down" if side == "encoder" else "up"
            for index, resnet in enumerate(block.resnets):
                tensors |= _vae_resnet(f"{side}.{way}.{level}.block.{index}", resnet)
            if sampler := getattr(block, f"{way}samplers"):
                tensors |= _inside(f"{side}.{way}.{level}.{way}sample.conv", sampler[0].conv)
    return tensors


def open_clip_tensors(model: Any) -> Tensors:
    """Under the names of OpenCLIP's text tower."""
    text = getattr(model, "text_model", model)
    tensors = {
        "token_embedding.weight": text.embeddings.token_embedding.weight.detach(),
        "positional_embedding": text.embeddings.position_embedding.weight.detach(),
        "logit_scale": torch.tensor(4.6),
        **_inside("ln_final", text.final_layer_norm),
    }
    for number, layer in enumerate(text.encoder.layers):
        place, attention = f"transformer.resblocks.{number}", layer.self_attn
        three = (attention.q_proj, attention.k_proj, attention.v_proj)
        tensors[f"{place}.attn.in_proj_weight"] = torch.cat([x.weight.detach() for x in three])
        tensors[f"{place}.attn.in_proj_bias"] = torch.cat([x.bias.detach() for x in three])
        tensors |= _inside(f"{place}.attn.out_proj", attention.out_proj)
        tensors |= _inside(f"{place}.ln_1", layer.layer_norm1) | _inside(f"{place}.ln_2", layer.layer_norm2)
        tensors |= _inside(f"{place}.mlp.c_fc", layer.mlp.fc1) | _inside(f"{place}.mlp.c_proj", layer.mlp.fc2)
    if hasattr(model, "text_projection"):
        tensors["text_projection"] = model.text_projection.weight.detach().T
    return tensors


def clip_tensors(model: Any) -> Tensors:
    """Under the names of transformers, in which CompVis kept CLIP."""
    text = getattr(model, "text_model", model)
    tensors = _inside("text_model", text)
    return tensors | {"text_model.embeddings.position_ids": torch.arange(77)[None]}


def _plain(words: CLIPTokenizer) -> dict[str, Any]:
    return {
        "tokenizer": words,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 64),
        latent_channels=4,
    )


def _text(width: int, activation: str, *, projection_dim: int | None = None) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=projection_dim or width,
        num_hidden_layers=2,
        num_attention_heads=width // 64,
        max_position_embeddings=77,
        hidden_act=activation,
        bos_token_id=49406,
        eos_token_id=49407,
    )


def _shaken(pipe: Any, seed: int) -> Any:
    """No bias of 0 and no scale of 1: what is swapped or forgotten shall show."""
    with seeded(seed + 1), torch.no_grad():
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                for weight in part.eval().parameters():
                    if weight.ndim == 1:
                        weight.add_(0.1 * torch.randn_like(weight))
    return pipe


def _pairs(block: Any) -> Iterator[tuple[Any, Any]]:
    attentions = list(getattr(block, "attentions", [])) or [None] * len(block.resnets)
    return zip(block.resnets, attentions, strict=True)


def _inside(path: str, module: Any) -> Tensors:
    return {} if module is None else {f"{path}.{name}": t for name, t in module.state_dict().items()}


def _resnet(path: str, resnet: Any) -> Tensors:
    layers = {
        "in_layers.0": resnet.norm1,
        "in_layers.2": resnet.conv1,
        "emb_layers.1": resnet.time_emb_proj,
        "out_layers.0": resnet.norm2,
        "out_layers.3": resnet.conv2,
        "skip_connection": resnet.conv_shortcut,
    }
    return {name: t for old, layer in layers.items() for name, t in _inside(f"{path}.{old}", layer).items()}


def _vae_resnet(path: str, resnet: Any) -> Tensors:
    return {
        f"{path}.{name.replace('conv_shortcut', 'nin_shortcut')}": t
        for name, t in resnet.state_dict().items()
    }
