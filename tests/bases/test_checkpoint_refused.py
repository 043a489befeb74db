"""Files that are no base, or a broken one: a sentence each, with the next step."""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lorastyle.bases import load_base
from lorastyle.bases.clip_words import clip_tokenizer
from lorastyle.bases.single_file import inspect_checkpoint, read_checkpoint
from lorastyle.errors import BaseError
from tests.original import (
    differing,
    made,
    original_tensors,
    sd1_pipeline,
    weights,
    write_original,
)


def only(path: Path, *names: str, shape: tuple[int, ...] = (2, 2)) -> Path:
    save_file({name: torch.zeros(shape) for name in names}, path)
    return path


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",), r"adapter.*--adapter"),
        (("unet.down_blocks.0.attentions.0.to_q.lora_A.weight",), r"adapter.*--adapter"),
        (("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",), "Stable Diffusion 3"),
        (("double_blocks.0.img_attn.qkv.weight", "vae.encoder.conv_in.weight"), "Flux"),
        (("first_stage_model.encoder.down.0.block.0.conv1.weight",), r"\(VAE\) alone"),
        (("encoder.down_blocks.0.resnets.0.conv1.weight",), r"\(VAE\) alone"),
        (("down_blocks.0.resnets.0.conv1.weight", "mid_block.resnets.0.conv1.weight"), "Name the folder"),
        (("input_blocks.0.0.weight",), "UNet alone"),
        (("model_ema.diffusion_modelinput_blocks00weight",), "averaged"),
        (("text_model.embeddings.token_embedding.weight",), "text encoder alone"),
        (("emb_params",), "textual inversion"),
        (("control_model.input_blocks.0.0.weight",), "ControlNet"),
        (
            ("model.diffusion_model.layers.0.attention.qkv.weight",),
            r"no Stable Diffusion checkpoint.*layers\.0",
        ),
        ((), r"holds no tensor"),
        (
            (
                "model.diffusion_model.input_blocks.0.0.weight",
                "conditioner.embedders.0.model.ln_final.weight",
            ),
            "refiner",
        ),
        (("model.diffusion_model.input_blocks.0.0.weight",), r"lacks its text encoder and its autoencoder"),
        (
            ("model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.x.weight"),
            r"lacks its autoencoder \(VAE\)",
        ),
        (("model.diffusion_model.input_blocks.1.0.motion_modules.0.weight",), "video"),
        (("model.diffusion_model.input_blocks.0.0.weight.absmax",), "quantised"),
    ],
)
def test_other_files_are_named(tmp_path: Path, names: tuple[str, ...], what: str) -> None:
    file = only(tmp_path / "mine.safetensors", *names)
    with pytest.raises(BaseError, match=rf'The base ".*mine\.safetensors" cannot be loaded.*{what}'):
        load_base(str(file), device="cpu")


def bad(content: bytes, name: str, tmp_path: Path) -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


@pytest.mark.parametrize(
    ("content", "name", "what"),
    [
        (
            b"this is a shopping list, and nothing else at all\n",
            "x.safetensors",
            r"is a text file\. lorastyle needs",
        ),
        (b"", "x.safetensors", "empty"),
        (b"<!doctype html><html>log in</html>", "x.safetensors", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "x.safetensors", "git lfs pull"),
        (b"GGUF\x03\0\0\0\0\0\0\0\0\0", "x.gguf", "GGUF model"),
        (b"PK\x03\x04" + bytes(60), "x.safetensors", r"pickle.*torch\.load\(.*weights_only=True"),
        (b"\x80\x02}q\x00." + bytes(60), "x.ckpt", r"pickle.*safetensors file, or convert it"),
        (bytes(60), "x.ckpt", "pickle"),
    ],
)
def test_files_that_are_no_safetensors(tmp_path: Path, content: bytes, name: str, what: str) -> None:
    with pytest.raises(BaseError, match=what):
        load_base(str(bad(content, name, tmp_path)), device="cpu")


def test_a_truncated_checkpoint(tmp_path: Path) -> None:
    file = write_original(made("sd1"), tmp_path / "x.safetensors")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(BaseError, match=r"cut short.*again"):
        load_base(str(file), device="cpu")


def test_the_command_for_a_pickle_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = original_tensors(made("sd1"))
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "an $(old).ckpt")
    with pytest.raises(BaseError) as told:
        load_base(str(tmp_path / "an $(old).ckpt"), device="cpu")
    code, *paths = shlex.split(str(told.value).partition("python -c ")[2])
    monkeypatch.setattr("sys.argv", ["-c", *paths])
    exec(code, {})
    pipe = read_checkpoint(inspect_checkpoint(tmp_path / "an $(old)-converted.safetensors", "x"))
    assert differing(weights(pipe), weights(made("sd1"))) == set()


def test_averaged_weights_alone(tmp_path: Path) -> None:
    names = [name for name in original_tensors(made("sd1")) if name.startswith("model.diffusion_model.")]
    change = dict.fromkeys(names)
    with pytest.raises(BaseError, match=r"averaged \(EMA\) weights only.*with model\.diffusion_model"):
        load_base(
            str(write_original(made("sd1"), tmp_path / "x.safetensors", ema=True, change=change)),
            device="cpu",
        )


IN = "model.diffusion_model.input_blocks"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({f"{IN}.1.0.in_layers.2.bias": None}, r"1 weights of its unet are missing.*resnets\.0\.conv1\.bias"),
        ({f"{IN}.1.0.extra.weight": torch.zeros(2)}, r"1 tensors fit nowhere in its unet.*extra\.weight"),
        ({f"{IN}.2.0.in_layers.2.bias": torch.zeros(5)}, r"shape \(5,\), where its unet needs \(32,\)"),
        ({f"{IN}.0.0.weight": torch.zeros(32)}, r"input_blocks\.0\.0\.weight has the shape \(32,\)"),
        ({f"{IN}.0.0.weight": torch.zeros(32, 4, 3, 3).byte()}, "stored as U8"),
        ({f"{IN}.3.0.op.weight": None}, r"residual blocks on the way down"),
        ({"first_stage_model.decoder.conv_in.weight": torch.zeros(64, 16, 3, 3)}, "autoencoder takes 16"),
        (
            {"first_stage_model.quant_conv.weight": torch.zeros(8, 8, 1, 2)},
            r"quant_conv\.weight has the shape",
        ),
        (
            {
                "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": torch.zeros(
                    99, 64
                )
            },
            "knows 99 words, where CLIP knows 49,408",
        ),
        (
            {"cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.bias": None},
            r"its text_encoder are missing.*layers\.1\.mlp\.fc2\.bias",
        ),
        (
            {"cond_stage_model.transformer.final_layer_norm.bias": torch.zeros(64)},
            r"both .*transformer\.final_layer_norm\.bias and .*text_model\.final_layer_norm\.bias claim",
        ),
        ({"model.diffusion_model.label_emb.0.0.weight": torch.zeros(128, 64)}, "pooled sentence"),
    ],
)
def test_a_damaged_checkpoint(tmp_path: Path, change: dict[str, Tensor | None], what: str) -> None:
    file = write_original(made("sd1"), tmp_path / "x.safetensors", change=change)
    with pytest.raises(
        BaseError, match=rf"Stable Diffusion 1\.x checkpoint, but .*{what}.*Download it again"
    ):
        load_base(str(file), device="cpu")


def test_text_of_another_width(tmp_path: Path) -> None:
    other = sd1_pipeline(clip_tokenizer(), cross_attention_dim=32)
    with pytest.raises(BaseError, match=r"reads text of width 32 and its text encoders give \[64\]"):
        load_base(str(write_original(other, tmp_path / "x.safetensors")), device="cpu")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    write_original(made("sd1"), tmp_path / "mine.safetensors")
    with pytest.raises(BaseError, match=r'There is no base .*Did you mean "mine\.safetensors"'):
        load_base(str(tmp_path / "mne.safetensors"), device="cpu")
    with pytest.raises(BaseError, match=r'Did you mean "mine\.safetensors"'):
        load_base(str(tmp_path / "mine"), device="cpu")
    with pytest.raises(BaseError, match=r"owner/name@revision\)\.$"):  # an ending alone makes nothing alike
        load_base(str(tmp_path / "other.safetensors"), device="cpu")
    with pytest.raises(BaseError, match="There is no base"):  # and no model of the Hub either
        load_base("models/mine.safetensors", device="cpu")
