"""Train the autoencoder: 128 x 128 x 3 to 16 x 16 x 4 and back.

    python -m tools.embedded_base.autoencoder --minutes 60

Loss: mean square + mean absolute + image-gradient error + a small KL. Crops of 64 pixels first,
which cost a quarter; whole pictures for the last fifth of the time, so that the group norms and
the middle attention see the statistics they will meet.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportOptionalCall=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from . import icons
from .training import Average, Clock, autocast, device, learning_rate, load, save

HELD_OUT_EVERY = 40


def build() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=icons.SIZE,
    )


def split(names: list[str]) -> tuple[list[int], list[int]]:
    """Indices (training, held out). Held-out icons are no subjects, so the UNet never needs them."""
    wanted = set(icons.subjects())
    others = [i for i, name in enumerate(names) if name not in wanted]
    held = set(others[:: max(len(others) // (len(names) // HELD_OUT_EVERY), 1)])
    return [i for i in range(len(names)) if i not in held], sorted(held)


def pictures(*, held_out: bool = False, sets: tuple[str, ...] = tuple(icons.STYLES)) -> torch.Tensor:
    """RGBA pictures (n, 4, 128, 128) uint8 of the training or held-out part."""
    parts = []
    for name in sets:
        names, pixels = icons.load_set(name)
        parts.append(pixels[split(names)[held_out]])
    return torch.from_numpy(np.concatenate(parts)).permute(0, 3, 1, 2).contiguous()


def compose(rgba: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """uint8 RGBA (b, 4, h, w) over a colour (b, 3, 1, 1) in 0..1 -> float (b, 3, h, w) in -1..1."""
    x = rgba.float() / 255
    return (x[:, :3] * x[:, 3:] + background * (1 - x[:, 3:])) * 2 - 1


def sample_batch(source: torch.Tensor, batch: int, crop: int, rng: torch.Generator) -> torch.Tensor:
    pick = torch.randint(len(source), (batch,), generator=rng)
    x = source[pick]
    if crop < x.shape[-1]:
        top, left = torch.randint(x.shape[-1] - crop + 1, (2,), generator=rng).tolist()
        x = x[:, :, top : top + crop, left : left + crop]
    background = torch.rand(batch, 3, 1, 1, generator=rng)
    background[torch.rand(batch, generator=rng) < 0.6] = 1.0
    out = compose(x, background)
    flip = torch.rand(batch, generator=rng) < 0.5
    out[flip] = out[flip].flip(-1)
    return out.to(device(), memory_format=torch.channels_last)


def loss_of(model: AutoencoderKL, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    moments = model.quant_conv(model.encoder(x))
    mean, logvar = moments.chunk(2, dim=1)
    logvar = logvar.clamp(-30, 20)
    y = model.decoder(model.post_quant_conv(mean + (0.5 * logvar).exp() * noise)).float()
    kl = 0.5 * (mean.float() ** 2 + logvar.float().exp() - 1 - logvar.float()).mean()
    error = y - x
    gradient = (error[..., 1:] - error[..., :-1]).abs().mean() + (
        error[..., 1:, :] - error[..., :-1, :]
    ).abs().mean()
    return 4 * F.mse_loss(y, x) + error.abs().mean() + 0.5 * gradient + 2e-4 * kl


@torch.no_grad()
def psnr(model: AutoencoderKL, rgba: torch.Tensor) -> float:
    """Mean PSNR in dB of reconstructions from the mean latent, on white, peak 1.0."""
    values = []
    for part in rgba.split(16):
        x = compose(part, torch.ones(len(part), 3, 1, 1)).to(device())
        y = model.decode(model.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        values.append(-10 * torch.log10((((x - y) / 2) ** 2).mean(dim=(1, 2, 3)).clamp_min(1e-10)))
    return torch.cat(values).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--lr", type=float, default=2e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    source, held = pictures(), pictures(held_out=True)
    path = icons.work_folder() / "autoencoder.pt"
    model = build().to(device(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(model, 0.998)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    step, clock = 0, Clock(args.minutes)
    if state := load(path):
        model.load_state_dict(state["model"])  # type: ignore[arg-type]
        average.model.load_state_dict(state["average"])  # type: ignore[arg-type]
        optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        step, clock = int(state["step"]), Clock(args.minutes, float(state["spent"]))  # type: ignore[arg-type]

    print(f"{len(source)} pictures, {len(held)} held out, from step {step}", flush=True)
    running = 0.0
    while clock.fraction < 1:
        rng = torch.Generator().manual_seed(step)
        whole = clock.fraction > 0.8
        x = sample_batch(source, args.batch // 3 if whole else args.batch, icons.SIZE if whole else 64, rng)
        noise = torch.randn(x.shape[0], 4, x.shape[2] // 8, x.shape[3] // 8, generator=rng).to(x.device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(args.lr, step, clock.fraction)
        with autocast():
            loss = loss_of(model, x, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(model, step)
        running += (loss.item() - running) / min(step + 1, 100)
        step += 1
        if step % 500 == 0 or clock.fraction == 1:
            print(
                f"step {step} {clock.spent / 60:.1f} min loss {running:.4f} "
                f"held-out {psnr(average.model, held[::3]):.2f} dB",  # type: ignore[arg-type]
                flush=True,
            )
            save(
                path,
                {
                    "model": model.state_dict(),
                    "average": average.model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "spent": clock.spent,
                },
            )


if __name__ == "__main__":
    main()
