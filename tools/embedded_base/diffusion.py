"""Train text encoder and UNet together on the autoencoder's latents.

    python -m tools.embedded_base.diffusion --minutes 600

v prediction on SD's own noise schedule, rescaled so that the last step is pure noise (Lin et al.
2023, arXiv:2305.08891): only so can a picture be all black or all white. Five eighths of each batch
are plain icons, the rest composed pictures. One caption in ten is left empty for classifier-free
guidance. One in six names no style, as people do who have an adapter for that, and one in eight a
style that does not exist: a word that only an adapter knows must not spoil what the base draws.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportOptionalCall=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse
import json
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import icons, tokenizer
from .augment import Captioned, Composer
from .autoencoder import build as build_autoencoder
from .training import Average, Clock, MuonAdam, autocast, device, learning_rate, load, save

EXPORTED = Path(__file__).parents[2] / "lorastyle" / "bases" / "embedded"
VARIED_PER_ICON = 24
EMPTY, UNSTYLED, INVENTED = 0.1, 0.15, 0.125
PLAIN = 5 / 8  # contexts are learnt early, subjects late: most of a batch is icons as they are
FIRST_WORD = 512  # tokens below are single letters
WIDTH = 192


def build_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=icons.SIZE // 8,
        block_out_channels=(96, 192, 256),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=WIDTH * 4,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.MAX_LENGTH,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )


class Painter(nn.Module):
    """Text encoder and UNet as one module, so that one optimiser and one average hold both."""

    def __init__(self, words: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(words)
        self.unet = build_unet()
        # Heads this small are a third faster on a CPU by plain products than by the fused kernel.
        if device().type == "cpu":
            self.unet.set_attn_processor(AttnProcessor())
            self.text_encoder.set_attn_implementation("eager")

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        context = self.text_encoder(ids).last_hidden_state
        return self.unet(noisy, t, context).sample


def start_from_base(model: Painter) -> int:
    """Load the exported weights, so that training goes on where no checkpoint has survived.

    Returns how many images they have seen.
    """
    for part in ("unet", "text_encoder"):
        module = getattr(model, part)
        trained = type(module).from_pretrained(EXPORTED / part, torch_dtype=torch.float32)
        module.load_state_dict(trained.state_dict())
    return int(json.loads((EXPORTED / "lorastyle.json").read_text())["images_seen"])


def trained_autoencoder() -> AutoencoderKL:
    """The averaged autoencoder of the work folder, else the package's own."""
    if state := load(icons.work_folder() / "autoencoder.pt"):
        model = build_autoencoder()
        model.load_state_dict(state["average"])  # type: ignore[arg-type]
    elif (EXPORTED / "vae" / "config.json").exists():
        model = AutoencoderKL.from_pretrained(EXPORTED / "vae", torch_dtype=torch.float32)
    else:
        raise SystemExit("train the autoencoder first: python -m tools.embedded_base.autoencoder")
    return model.to(device()).eval().requires_grad_(False)


@torch.no_grad()
def encode(pictures: list[Captioned]) -> torch.Tensor:
    """Moments (n, 8, 16, 16) float16 of captioned pictures, mean first, then std."""
    model, out = trained_autoencoder(), []
    for i in range(0, len(pictures), 64):
        x = torch.from_numpy(np.stack([p.pixels for p in pictures[i : i + 64]])).to(device())
        x = (x.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with autocast():
            d = model.encode(x).latent_dist
        out.append(torch.cat([d.mean.float(), d.std.float()], 1).half().cpu())
    return torch.cat(out)


@cache
def composer() -> Composer:
    return Composer()


def varied(job: tuple[tuple[str, str], int]) -> Captioned:
    """The i-th composed picture of an icon, always the same one."""
    return composer().varied(job[0], random.Random(str(job)))


def latents() -> dict[str, torch.Tensor]:
    """The pool of encoded pictures with their token ids, made once."""
    path = icons.work_folder() / "latents.pt"
    if state := load(path):
        return state  # type: ignore[return-value]
    keys, words = composer().keys, tokenizer.load()
    plain = [composer().plain(k) for k in keys]
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        jobs = [(k, i) for i in range(VARIED_PER_ICON) for k in keys]
        composed = list(workers.map(varied, jobs, chunksize=64))

    def ids(pictures: list[Captioned]) -> torch.Tensor:
        return torch.tensor(
            words([p.caption for p in pictures], padding="max_length", truncation=True).input_ids
        )

    state = {
        "plain": encode(plain),
        "plain_ids": ids(plain),
        "varied": encode(composed),
        "varied_ids": ids(composed),
    }
    mean, std = state["plain"].float().chunk(2, 1)
    state["scaling"] = 1 / (mean + std * torch.randn_like(std)).std()
    save(path, state)  # type: ignore[arg-type]
    return state


@dataclass(frozen=True)
class Marks:
    """Token ids with a meaning: the comma before a style, and the end, which also pads."""

    comma: int
    end: int


def sample_batch(
    pool: dict[str, torch.Tensor], batch: int, marks: Marks, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled latents (batch, 4, 16, 16) and token ids (batch, 32), on the device of the pool."""
    parts, ids, where = [], [], rng.device
    plain = round(batch * PLAIN)
    for kind, count in (("plain", plain), ("varied", batch - plain)):
        pick = torch.randint(len(pool[kind]), (count,), generator=rng, device=where)
        mean, std = pool[kind][pick].float().chunk(2, 1)
        parts.append(mean + std * torch.randn(mean.shape, generator=rng, device=where))
        ids.append(pool[f"{kind}_ids"][pick])
    tokens, chance = torch.cat(ids), torch.rand(batch, 1, generator=rng, device=where)
    invented = with_invented_style(tokens, marks, rng)
    tokens = torch.where(chance >= 1 - INVENTED, invented, tokens)
    tokens = torch.where(chance < EMPTY + UNSTYLED, without_style(tokens, marks), tokens)
    tokens = torch.where(chance < EMPTY, cut(tokens, after=0), tokens)
    return torch.cat(parts) * pool["scaling"], tokens


def without_style(ids: torch.Tensor, marks: Marks) -> torch.Tensor:
    """Token ids (b, 32) of `a red apple, noto style` -> of `a red apple`."""
    return cut(ids, after=(ids == marks.comma).int().argmax(1, keepdim=True) - 1)


def with_invented_style(ids: torch.Tensor, marks: Marks, rng: torch.Generator) -> torch.Tensor:
    """Token ids (b, 32) of `a red apple, noto style` -> of `a red apple, <one to three tokens> style`."""
    count, length = ids.shape
    at = torch.arange(length, device=ids.device)
    comma = (ids == marks.comma).int().argmax(1, keepdim=True)
    last = (ids == marks.end).int().argmax(1, keepdim=True) - 1  # where `style` stands
    name = torch.randint(FIRST_WORD, marks.end - 1, (count, length), generator=rng, device=ids.device)
    stop = comma + torch.randint(1, 4, (count, 1), generator=rng, device=ids.device)
    made = torch.where(at <= stop, name, marks.end)
    made = torch.where(at == stop + 1, ids.gather(1, last), made)
    made = torch.where(at <= comma, ids, made)
    made[:, -1] = marks.end
    return torch.where((ids == marks.comma).any(1, keepdim=True), made, ids)


def cut(ids: torch.Tensor, *, after: int | torch.Tensor) -> torch.Tensor:
    """Token ids (b, 32) that end after a place; the last token ends and pads every caption."""
    return torch.where(torch.arange(ids.shape[1], device=ids.device) > after, ids[:, -1:], ids)


def timesteps(batch: int, rng: torch.Generator) -> torch.Tensor:
    """Timesteps (batch,) in 0..999, stratified: every step sees every part of the schedule.

    The middle is seen more often than the ends, where there is little to learn: nearly halfway from
    uniform to the logit-normal density of Esser et al. 2024 (arXiv:2403.03206, section 3.1).
    """
    where = rng.device
    u = (torch.arange(batch, device=where) + torch.rand(batch, generator=rng, device=where)) / batch
    middle = torch.sigmoid(torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)) - 0.1)
    order = torch.randperm(batch, generator=rng, device=where)
    return ((0.4 * u + 0.6 * middle)[order] * 1000).long().clamp(0, 999)


def pipeline(model: Painter, scaling: float) -> StableDiffusionPipeline:
    """The parts as a diffusers pipeline."""
    vae = trained_autoencoder().float()
    vae.register_to_config(scaling_factor=scaling)
    made = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder.eval(),
        tokenizer=tokenizer.load(),
        unet=model.unet.eval(),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


SHEET = (
    "a red apple",
    "a cat",
    "a house",
    "a rocket",
    "a fish",
    "a guitar",
    "a small dog",
    "a bear on a blue background",
    "a green cat",
    "a cat and a tree",
    "a mushroom in the top left corner",
    "a bicycle",
)


def draw_sheet(pipe: StableDiffusionPipeline, path: Path, *, steps: int = 20) -> None:
    """A contact sheet: one row a style, one column a prompt."""
    rows = []
    for style in icons.STYLES.values():
        rng = [torch.Generator().manual_seed(i) for i in range(len(SHEET))]
        prompts = [f"{p}, {style} style" for p in SHEET]
        with torch.no_grad(), autocast():
            options = {"num_inference_steps": steps, "guidance_scale": 3.0, "guidance_rescale": 0.7}
            rows.append(pipe(prompts, generator=rng, **options).images)
    sheet = Image.new("RGB", (icons.SIZE * len(SHEET), icons.SIZE * len(rows)))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * icons.SIZE, y * icons.SIZE))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--from-base", action="store_true", help="no checkpoint: start from the package's weights"
    )
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # all batches have one shape

    words = tokenizer.load()
    pool = {name: part.to(device()) for name, part in latents().items()}
    marks = Marks(int(words.convert_tokens_to_ids(",</w>")), int(words.eos_token_id))
    model = Painter(words).to(device())
    average = Average(model, 0.998)
    optimizer = MuonAdam(model, args.lr, edges=("embedding", "conv_in", "conv_out"))
    path = icons.work_folder() / "painter.pt"
    step, images, clock = 0, 0, Clock(args.minutes)
    if args.from_base:
        images = start_from_base(model)
        average.model.load_state_dict(model.state_dict())
    if state := load(path):
        model.load_state_dict(state["model"])  # type: ignore[arg-type]
        average.model.load_state_dict(state["average"])  # type: ignore[arg-type]
        optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        step, images = int(state["step"]), int(state["images"])  # type: ignore[call-overload]
        clock = Clock(args.minutes, float(state["spent"]))  # type: ignore[arg-type]
    alphas = scheduler().alphas_cumprod.to(device())

    running = torch.zeros((), device=device())
    next_save, next_sheet = clock.spent + 120, clock.spent + 600
    started, before = clock.spent, images
    while clock.fraction < 1:
        rng = torch.Generator(device()).manual_seed(step)
        x, ids = sample_batch(pool, args.batch, marks, rng)
        noise = torch.randn(x.shape, generator=rng, device=x.device)
        t = timesteps(args.batch, rng)
        a = alphas[t].sqrt()[:, None, None, None]
        b = (1 - alphas[t]).sqrt()[:, None, None, None]
        with autocast():
            v = model(a * x + b * noise, t, ids)
        loss = F.mse_loss(v.float(), a * noise - b * x)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(learning_rate(args.lr, step, clock.fraction, warmup=50))
        average.update(model, step)
        running += (loss.detach() - running) / min(step + 1, 100)
        step, images = step + 1, images + args.batch
        if step % 50 == 0:
            rate = (images - before) / (clock.spent - started)
            print(
                f"step {step} {clock.spent / 60:.1f} min loss {float(running):.4f} {rate:.0f}/s", flush=True
            )
        if clock.spent > next_save or clock.fraction == 1:
            next_save = clock.spent + 120
            save(
                path,
                {
                    "model": model.state_dict(),
                    "average": average.model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "images": images,
                    "spent": clock.spent,
                },
            )
        if clock.spent > next_sheet or clock.fraction == 1:
            next_sheet = clock.spent + 900
            sheet = icons.work_folder() / f"sheet-{step:06}.png"
            draw_sheet(pipeline(average.model, float(pool["scaling"])), sheet)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
