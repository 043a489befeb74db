"""Does a model of true size work here? From a checkpoint file to an adapter and a picture.

    python -m benchmarks.true_size          # Stable Diffusion 1.5 at 512 pixels, some minutes on two cores

Stable Diffusion 1.5 with random weights is written as one checkpoint in float16, as people download them.
Then the command line trains on five pictures for five steps, and draws one in four, each as a process of its
own. Time is wall clock; memory is the most that a process had resident.
"""

# diffusers annotates more narrowly than it accepts.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from rich.console import Console
from rich.table import Table
from transformers import CLIPTextConfig, CLIPTextModel

from lorastyle.bases.clip_words import clip_tokenizer
from tests.original import write_original

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Run:
    """One command: what it did, in how many seconds, with how many bytes resident at most."""

    what: str
    seconds: float
    bytes: int


def write_checkpoint(path: Path) -> None:
    """Stable Diffusion 1.5 with random weights."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )
    text = CLIPTextConfig(
        vocab_size=49_408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=77,
        bos_token_id=49_406,
        eos_token_id=49_407,
        pad_token_id=49_407,
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=clip_tokenizer(pad="<|endoftext|>", max_tokens=77),
        unet=unet,
        scheduler=PNDMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    write_original(pipe, path, dtype=torch.float16)


def run(what: str, *arguments: str, folder: Path) -> Run:
    """`lorastyle <arguments>` in a process of its own, in `folder`, shown as it goes."""
    environment = {**os.environ, "LORASTYLE_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "lorastyle", *arguments], cwd=folder, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"lorastyle {' '.join(arguments)} ended with {code}")
    return Run(what, time.perf_counter() - start, usage.ru_maxrss * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoint is kept; a temporary folder if left out"
    )
    args = parser.parse_args()
    folder: Path = (args.folder or Path(tempfile.mkdtemp())).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = folder / "sd15-random.safetensors"
        if not file.exists():
            write_checkpoint(file)
        base = ("--base", file.name)
        images = str(ROOT / "samples" / "blob")
        few = ("--steps", "5", "--sample-prompts", "a cat", "--sample-every", "0", "--no-sheet")
        runs = [
            run("train 5 steps", "train", "--images", images, *base, *few, folder=folder),
            run("draw 4 steps", "generate", "a cat", "-a", "blob", "--steps", "4", *base, folder=folder),
        ]
    finally:
        if args.folder is None:
            shutil.rmtree(folder)
    table = Table(
        title=f"Stable Diffusion 1.5, random weights, 512 px, {platform.machine()}, {os.cpu_count()} CPUs"
    )
    for heading in ("what", "minutes", "most memory"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for one in runs:
        table.add_row(one.what, f"{one.seconds / 60:.1f}", f"{one.bytes / 1e9:.1f} GB")
    Console().print(table)


if __name__ == "__main__":
    main()
