"""One file in the makers' layout against the pipeline it was written from."""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lorastyle.bases import load_base
from lorastyle.bases.clip_words import clip_tokenizer
from lorastyle.bases.single_file import inspect_checkpoint, read_checkpoint
from tests.original import (
    clip_tensors,
    differing,
    made,
    original_tensors,
    sd1_pipeline,
    vae_tensors,
    weights,
    write_original,
)

FAMILIES = ("sd1", "sd2", "sdxl")
V = {"modelspec.prediction_type": "v"}


def picture(pipe: Any) -> Tensor:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    size = {"height": 64, "width": 64, "num_inference_steps": 3}
    prompts = {"prompt": "a cat on a mat!", "negative_prompt": "blurry"}
    return torch.from_numpy(pipe(**prompts, **size, generator=generator, output_type="np").images)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_its_folder(tmp_path: Path, family: str) -> None:
    pipe = made(family)
    file = write_original(pipe, tmp_path / "all.safetensors", metadata=V if family == "sd2" else None)
    pipe.save_pretrained(tmp_path / "folder")
    one, other = load_base(str(file), device="cpu"), load_base(str(tmp_path / "folder"), device="cpu")
    assert differing(weights(one.pipe), weights(other.pipe)) == set()
    assert type(one) is type(other)
    told = ("family", "resolution", "prediction_type", "max_tokens", "pixels_per_latent", "latent_channels")
    assert [getattr(one, fact) for fact in told] == [getattr(other, fact) for fact in told]
    assert torch.equal(one.alphas_cumprod, other.alphas_cumprod)
    assert one.module_shapes() == other.module_shapes()
    assert torch.equal(one.encode_prompts(["a cat!", ""]).tokens, other.encode_prompts(["a cat!", ""]).tokens)
    # weights that a folder leaves in its mapped file lie anywhere, and sums round by where they lie
    torch.testing.assert_close(picture(one.pipe), picture(other.pipe), atol=1e-4, rtol=0)
    torch.testing.assert_close(picture(one.pipe), picture(pipe), atol=1e-4, rtol=0)
    assert not one.pipe.unet.training and not any(p.requires_grad for p in one.pipe.unet.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_reads_the_same_in_the_files_of_these_tests(tmp_path: Path, family: str) -> None:
    """The writer of these files is tested too, by another reader."""
    pipe = made(family)
    file = write_original(pipe, tmp_path / "x.safetensors")
    pipe.save_pretrained(tmp_path / "folder")
    theirs = type(pipe).from_single_file(str(file), config=str(tmp_path / "folder"), local_files_only=True)
    assert differing(weights(theirs), weights(pipe)) == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_float16_with_averaged_weights(tmp_path: Path, family: str) -> None:
    pipe = made(family)
    file = write_original(pipe, tmp_path / "x.safetensors", dtype=torch.float16, ema=True, metadata=V)
    found = weights(read_checkpoint(inspect_checkpoint(file, "x")))
    assert differing(found, {name: w.half().float() for name, w in weights(pipe).items()}) == set()
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    assert differing(found, weights(pipe)) != set()


def test_two_weights_swapped_in_the_file_are_seen(tmp_path: Path) -> None:
    tensors = original_tensors(made("sd1"))
    first, second = (
        f"model.diffusion_model.input_blocks.{n}.1.transformer_blocks.0.attn2.to_k.weight" for n in (1, 2)
    )
    file = write_original(
        made("sd1"), tmp_path / "x.safetensors", change={first: tensors[second], second: tensors[first]}
    )
    pipe = read_checkpoint(inspect_checkpoint(file, "x"))
    assert differing(weights(pipe), weights(made("sd1"))) == {
        f"unet.down_blocks.0.attentions.{n}.transformer_blocks.0.attn2.to_k.weight" for n in (0, 1)
    }
    assert not torch.allclose(picture(pipe), picture(made("sd1")), atol=1e-4, rtol=0)


def test_the_file_is_not_needed_afterwards(tmp_path: Path) -> None:
    file = write_original(made("sd1"), tmp_path / "x.safetensors")
    pipe = read_checkpoint(inspect_checkpoint(file, "x"))
    with file.open("r+b") as bytes_:
        bytes_.seek(file.stat().st_size // 2)
        bytes_.write(b"\x00" * (file.stat().st_size // 2))
    assert differing(weights(pipe), weights(made("sd1"))) == set()


def test_the_unet_takes_the_type_it_is_asked_for(tmp_path: Path) -> None:
    file = write_original(made("sd1"), tmp_path / "x.safetensors")
    pipe = read_checkpoint(inspect_checkpoint(file, "x"), dtype=torch.bfloat16)
    assert {p.dtype for p in pipe.unet.parameters()} == {torch.bfloat16}
    assert {p.dtype for m in (pipe.vae, pipe.text_encoder) for p in m.parameters()} == {torch.float32}


def test_names_that_other_converters_write(tmp_path: Path) -> None:
    """CLIP without `text_model.`; the autoencoder's attention under diffusers' old names, as Linears."""
    pipe = made("sd1")
    old, prefix = original_tensors(pipe), "cond_stage_model.transformer."
    change: dict[str, Tensor | None] = {name: None for name in old if name.startswith(prefix)}
    change |= {
        f"{prefix}{n.removeprefix('text_model.')}": t for n, t in clip_tensors(pipe.text_encoder).items()
    }
    change |= {name: None for name in old if name.startswith("first_stage_model.")}
    middle = vae_tensors(pipe.vae, attention=("query", "key", "value", "proj_attn"))
    change |= {
        f"first_stage_model.{name}": t[:, :, 0, 0] if ".attn_1." in name and t.ndim == 4 else t
        for name, t in middle.items()
    }
    change |= {"first_stage_model.loss.logvar": torch.zeros(1), "betas": torch.zeros(1000)}
    added = {name: tensor for name, tensor in change.items() if tensor is not None}
    kept = {name: tensor for name, tensor in old.items() if name not in change}
    file = tmp_path / "x.safetensors"
    save_file({name: t.contiguous().clone() for name, t in (kept | added).items()}, file)
    assert any(name.startswith(f"{prefix}embeddings.") for name in load_file(file))
    assert differing(weights(read_checkpoint(inspect_checkpoint(file, "x"))), weights(pipe)) == set()


def test_sd2_without_the_block_that_is_not_read(tmp_path: Path) -> None:
    pipe, place = made("sd2"), "cond_stage_model.model."
    unread = [n for n in original_tensors(pipe) if n.startswith(f"{place}transformer.resblocks.2.")]
    change = dict.fromkeys([*unread, f"{place}text_projection"], None)
    file = write_original(pipe, tmp_path / "x.safetensors", metadata=V, change=change)
    assert unread
    assert differing(weights(read_checkpoint(inspect_checkpoint(file, "x"))), weights(pipe)) == set()


def test_sdxl_with_its_projection_as_a_linear(tmp_path: Path) -> None:
    pipe, name = made("sdxl"), "conditioner.embedders.1.model.text_projection"
    turned = original_tensors(pipe)[name].T
    file = write_original(pipe, tmp_path / "x.safetensors", change={name: None, f"{name}.weight": turned})
    assert differing(weights(read_checkpoint(inspect_checkpoint(file, "x"))), weights(pipe)) == set()


def test_a_smaller_unet_draws(tmp_path: Path) -> None:
    pipe = sd1_pipeline(clip_tokenizer(), layers_per_block=(1, 2), mid_block_type=None)
    file = write_original(pipe, tmp_path / "x.safetensors")
    found = read_checkpoint(inspect_checkpoint(file, "x"))
    assert differing(weights(found), weights(pipe)) == set()
    torch.testing.assert_close(picture(found), picture(pipe), atol=1e-4, rtol=0)
