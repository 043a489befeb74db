"""Train the judge (benchmarks/classifier.py) on real icons.

    python -m tools.embedded_base.judge --minutes 12

It sees real icons only: shifted, scaled, on colours, in other colours, sometimes through the
autoencoder (so that it judges drawing, not the autoencoder's softness), never a generated picture.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportOptionalCall=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse
import json
import random

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from benchmarks.classifier import SIDE, STYLES, WEIGHTS, IconClassifier

from . import icons
from .autoencoder import compose
from .diffusion import trained_autoencoder
from .training import Average, Clock, MuonAdam, autocast, learning_rate

SETS = {**icons.STYLES, "streamline-stickies-color": "sticker", "fluent-emoji-high-contrast": "ink"}


def gather() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    """RGBA pictures at 128, their styles, their subjects (-1: none of the base's), subject names."""
    subjects = list(icons.subjects())
    index = {name: i for i, name in enumerate(subjects)}
    pixels, styles, labels = [], [], []
    for name, style in SETS.items():
        names, rgba = icons.load_set(name)
        pixels.append(rgba)
        styles += [STYLES.index(style)] * len(names)
        labels += [index.get(n, -1) for n in names]
    x = torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2).contiguous()
    return x, torch.tensor(styles), torch.tensor(labels), subjects


@torch.no_grad()
def through_autoencoder(rgba: torch.Tensor) -> torch.Tensor:
    """Float pictures on white (n, 3, 128, 128) in -1..1, encoded and decoded, as float16."""
    model, out = trained_autoencoder(), []
    for part in rgba.split(64):
        x = compose(part, torch.ones(len(part), 3, 1, 1))
        with autocast():
            y = model.decode(model.encode(x).latent_dist.mean).sample
        out.append(F.interpolate(y.float(), size=(SIDE, SIDE), mode="area").clamp(-1, 1).half())
    return torch.cat(out)


def augment(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Scale, shift and a touch of noise for a batch (b, 3, 64, 64); white comes in at the edges."""
    b = len(x)
    scale = torch.tensor(
        [rng.uniform(0.9, 1.2) if rng.random() < 0.8 else rng.uniform(1.5, 2.2) for _ in range(b)]
    )
    shift = torch.tensor([[rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15)] for _ in range(b)])
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift * scale[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    out = F.grid_sample(x - 1, grid, align_corners=False) + 1
    return out + torch.randn_like(out) * rng.uniform(0, 0.04)


def recolour(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Other colours for a batch (b, 3, 64, 64): mixed channels or gray, and a tint; white stays white.

    A subject must be found in styles with colours of their own, so it must be known by its shape.
    """
    mix = (2 * torch.randn(len(x), 3, 3, generator=rng)).softmax(-1)
    mix[torch.rand(len(x), generator=rng) < 0.3] = 1 / 3
    tint = 0.2 + 0.8 * torch.rand(len(x), 3, 1, 1, generator=rng)
    return 1 - (1 - torch.einsum("bij,bjhw->bihw", mix, x)) * tint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=96)
    args = parser.parse_args()
    torch.manual_seed(0)

    rgba, styles, labels, subjects = gather()
    small = F.interpolate(rgba.float(), size=(SIDE, SIDE), mode="area").round().to(torch.uint8)
    soft = through_autoencoder(rgba)
    # Every style equally often: a set of 200 stickers must not drown.
    counts = torch.bincount(styles).float()
    rare = (labels < 0) & (styles < STYLES.index("sticker"))  # people and signs, which nobody prompts
    weights = torch.where(rare, 0.2, 1.0) / counts[styles].sqrt()
    model = IconClassifier(len(subjects))
    average = Average(model, 0.998)
    optimizer = MuonAdam(model, 2e-3, edges=("stem", "style", "subject"))
    clock, step = Clock(args.minutes), 0
    while clock.fraction < 1:
        rng, torch_rng = random.Random(step), torch.Generator().manual_seed(step)
        pick = torch.multinomial(weights, args.batch, replacement=True, generator=torch_rng)
        background = torch.rand(args.batch, 3, 1, 1, generator=torch_rng)
        background[torch.rand(args.batch, generator=torch_rng) < 0.7] = 1.0
        x = compose(small[pick], background)
        use_soft = torch.rand(args.batch, generator=torch_rng) < 0.4
        x[use_soft] = soft[pick][use_soft].float()
        x = augment(x, rng)
        other = torch.rand(args.batch, generator=torch_rng) < 0.5
        x[other] = recolour(x[other], torch_rng)
        model.train()
        with autocast():
            style, subject = model(x)
        loss = F.cross_entropy(style[~other].float(), styles[pick][~other]) + F.cross_entropy(
            subject.float(), labels[pick], ignore_index=-1, label_smoothing=0.05
        )
        loss.backward()
        optimizer.step(learning_rate(2e-3, step, clock.fraction))
        average.update(model, step)
        step += 1
        if step % 200 == 0:
            print(f"step {step} {clock.spent / 60:.1f} min loss {loss.item():.3f}", flush=True)

    # Averaged weights need batch statistics of their own.
    final = average.model.train()
    with torch.no_grad():
        for _ in range(40):
            final(
                augment(
                    compose(small[torch.randint(len(small), (96,))], torch.ones(96, 3, 1, 1)),
                    random.Random(0),
                )
            )
        final.eval()
        logits = [final(compose(part, torch.ones(len(part), 3, 1, 1))) for part in small.split(256)]
    style, subject = torch.cat([s for s, _ in logits]), torch.cat([s for _, s in logits])
    known = labels >= 0
    top5 = (subject[known].topk(5, 1).indices == labels[known, None]).any(1).float().mean()
    right = (style.argmax(1) == styles)[known | (styles >= STYLES.index("sticker"))].float().mean()
    print(f"real icons: style {right:.3f}, subject top 5 {top5:.3f}")
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in final.state_dict().items()}
    save_file(state, WEIGHTS, metadata={"subjects": json.dumps(subjects)})


if __name__ == "__main__":
    main()
