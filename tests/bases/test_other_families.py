"""Pipelines, folders, Hub models and checkpoints of other families: a sentence that names them each."""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNetMotionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel

from lorastyle.bank import attach
from lorastyle.bases import StableDiffusion, StableDiffusionXL, load_base, open_pipeline, peek_base
from lorastyle.errors import AdapterError, BaseError
from tests.stand_in import StandIn, point_at, stand_in
from tests.tiny import tiny_pipeline, tiny_text_config, tiny_tokenizer, tiny_vae, tiny_xl_pipeline

ALLOWED = (
    "lorastyle opens Stable Diffusion 1.x, 2.x and XL: StableDiffusionPipeline, "
    "StableDiffusionInpaintPipeline, StableDiffusionXLPipeline or StableDiffusionXLInpaintPipeline."
)


def tiny_t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=32, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2))


def flux() -> FluxPipeline:
    words = tiny_tokenizer()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny_vae(),
        text_encoder=CLIPTextModelWithProjection(tiny_text_config(words)),
        tokenizer=words,
        text_encoder_2=tiny_t5(),
        tokenizer_2=words,
        transformer=FluxTransformer2DModel(
            in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1,
            joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
        ),
    )  # fmt: skip


def sd3() -> StableDiffusion3Pipeline:
    words = tiny_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8, num_layers=1, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16,
            caption_projection_dim=16, pooled_projection_dim=32,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny_vae(),
        text_encoder=CLIPTextModelWithProjection(tiny_text_config(words)),
        tokenizer=words,
        text_encoder_2=CLIPTextModelWithProjection(tiny_text_config(words)),
        tokenizer_2=words,
        text_encoder_3=tiny_t5(),
        tokenizer_3=words,
    )  # fmt: skip


def controlled() -> StableDiffusionControlNetPipeline:
    parts = {k: v for k, v in tiny_pipeline().components.items() if k != "image_encoder"}
    control = ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(4, 8))
    return StableDiffusionControlNetPipeline(**parts, controlnet=control, requires_safety_checker=False)


def changed(make: Any = tiny_pipeline, **parts: object) -> Any:
    """A pipeline with other parts; False takes one away."""
    pipe = make()
    kept = {**pipe.components, **parts}
    made = type(type(pipe).__name__, (SimpleNamespace,), {})
    return made(components=kept, **{name: part or None for name, part in kept.items()})


def ip_adapted() -> Any:
    pipe = tiny_pipeline()
    pipe.unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
    return pipe


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (flux, "is a FluxPipeline, which has a transformer (FluxTransformer2DModel) instead of a UNet"),
        (sd3, "is a StableDiffusion3Pipeline, which has a transformer (SD3Transformer2DModel) instead"),
        (controlled, "is a StableDiffusionControlNetPipeline, which would be drawn without its controlnet"),
        (lambda: changed(text_encoder=tiny_t5()), "whose text_encoder is a T5EncoderModel, where a CLIPText"),
        (
            lambda: changed(tiny_xl_pipeline, text_encoder_2=tiny_t5()),
            "whose text_encoder_2 is a T5EncoderModel",
        ),
        (lambda: changed(text_encoder_2=tiny_t5()), "which has no tokenizer_2"),
        (lambda: changed(unet=UNetMotionModel.__new__(UNetMotionModel)), "whose unet is a UNetMotionModel"),
        (lambda: changed(motion_adapter=torch.nn.Linear(1, 1)), "without its motion_adapter"),
        (lambda: changed(vae=False), "which has no vae"),
        (lambda: changed(text_encoder=False), "which has no text encoder"),
        (lambda: changed(vae=AutoencoderKL(3, 6)), "whose autoencoder makes 6 channels"),
        (ip_adapted, "also reads something else than a prompt (ip_image_proj)"),
        (
            lambda: SimpleNamespace(prior=torch.nn.Linear(1, 1)),
            "which has a prior (Linear) instead of a UNet",
        ),
        (object, "is a object, which has no unet"),
    ],
)
def test_a_pipeline_of_another_kind_is_named(make: Any, told: str) -> None:
    pipe = make()
    for open_ in (open_pipeline, StableDiffusion, StableDiffusionXL):
        with pytest.raises(BaseError) as error:
            open_(pipe)
        assert told in str(error.value) and str(error.value).endswith(ALLOWED)


def test_pipelines_with_the_same_parts_are_opened() -> None:
    image = StableDiffusionImg2ImgPipeline(**tiny_pipeline().components, requires_safety_checker=False)
    assert type(open_pipeline(image)) is StableDiffusion
    larger = StableDiffusionXLImg2ImgPipeline(**tiny_xl_pipeline().components, add_watermarker=False)
    assert type(open_pipeline(larger)) is StableDiffusionXL


@pytest.mark.parametrize("make", [flux, sd3])
def test_nothing_is_attached_to_a_transformers_text_encoders_alone(make: Any) -> None:
    pipe = make()
    with pytest.raises(AdapterError, match=rf"{type(pipe).__name__} has a transformer .* instead of a UNet"):
        attach(pipe)
    with attach({"text_encoder": pipe.text_encoder}) as bank:
        assert repr(bank) == "AdapterBank(text_encoder; no adapters)"


def index_of(folder: Path, kind: str, **parts: tuple[str, str]) -> Path:
    """Make a folder's index say something else."""
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": kind, **{part: list(entry) for part, entry in parts.items()}}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


OTHERS = [
    "StableDiffusion3Pipeline",
    "FluxPipeline",
    "Flux2Pipeline",
    "FluxKontextPipeline",
    "PixArtSigmaPipeline",
    "KolorsPipeline",
    "AnimateDiffPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionXLControlNetPipeline",
    "StableCascadeDecoderPipeline",
    "WanPipeline",
    "QwenImagePipeline",
]


@pytest.mark.parametrize("kind", OTHERS)
def test_a_folder_of_another_kind_is_named(copy: Path, kind: str) -> None:
    index_of(copy, kind)
    for look in (load_base, peek_base):
        with pytest.raises(BaseError) as error:
            look(str(copy))
        assert str(error.value) == f'The base "{copy}" is a {kind}. {ALLOWED}'


@pytest.mark.parametrize(
    ("part", "entry"),
    [
        ("unet", ("diffusers", "UNetMotionModel")),
        ("text_encoder", ("transformers", "ChatGLMModel")),
        ("text_encoder", ("transformers", "T5EncoderModel")),
    ],
)
def test_a_folder_with_a_part_of_another_kind(copy: Path, part: str, entry: tuple[str, str]) -> None:
    index_of(copy, "StableDiffusionPipeline", **{part: entry})
    with pytest.raises(BaseError, match=rf"has a {part} of the class {entry[1]}, where a .* is needed\."):
        load_base(str(copy))


@pytest.fixture(scope="module")
def served() -> Generator[StandIn]:
    with stand_in() as hub:
        yield hub


@pytest.mark.parametrize("kind", ["FluxPipeline", "KolorsPipeline"])
def test_of_another_kind_on_the_hub_only_the_index_is_fetched(
    served: StandIn, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    point_at(served, tmp_path, monkeypatch)
    served.models = {"someone/else": index_of(copy, kind)}
    before = len(served.sent())
    with pytest.raises(BaseError, match=rf'The base "someone/else" is a {kind}\. lorastyle opens'):
        load_base("someone/else")
    assert served.sent()[before:] == ["model_index.json"]


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model.", "net."])
@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("joint_blocks.0.context_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("transformer_blocks.0.attn.add_q_proj.weight", "Stable Diffusion 3"),
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("single_transformer_blocks.0.attn.to_q.weight", "Flux"),
        ("double_stream_modulation_img.lin.weight", r"Flux\.2"),
        ("distilled_guidance_layer.layers.0.in_layer.weight", "Chroma"),
        ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "HunyuanVideo"),
        ("clip_txt_mapper.weight", "Stable Cascade"),
        ("clf.1.weight", "Stable Cascade"),
        ("double_layers.0.attn.w1q.weight", "AuraFlow"),
        ("mlp_t5.0.weight", "HunyuanDiT"),
        ("t5_yproj.weight", "Mochi"),
        ("head.modulation", "Wan"),
        ("blocks.0.cross_attn.norm_k.weight", "Wan"),
        ("transformer_blocks.0.img_mod.1.weight", "Qwen-Image"),
        ("cap_embedder.1.weight", r"Lumina \(Z-Image\)"),
        ("noise_refiner.0.attention.qkv.weight", r"Lumina \(Z-Image\)"),
        ("t_block.1.weight", "PixArt"),
        ("adaln_single.emb.timestep_embedder.linear_1.bias", "LTX-Video"),
        ("blocks.block0.blocks.0.block.attn.to_q.0.weight", "Cosmos"),
        ("double_stream_blocks.0.block.adaLN_modulation.1.weight", "HiDream"),
        ("encoder_hid_proj.weight", "Kolors"),
        ("transformer.rotary_pos_emb.inv_freq", "Stable Audio"),
    ],
)
def test_a_checkpoint_of_another_family_is_named(tmp_path: Path, prefix: str, name: str, family: str) -> None:
    save_file({f"{prefix}{name}": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(BaseError, match=rf"cannot be loaded: it is an? {family}.* model\. Choose a whole"):
        load_base(str(tmp_path / "x.safetensors"))
