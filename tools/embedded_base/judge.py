"""Train the judge (benchmarks/classifier.py) on real icons.

    python -m tools.embedded_base.judge --minutes 24

It sees real icons only, never a picture drawn from a prompt: shifted, scaled, on colours, softened,
through the autoencoder, and for styles also redrawn by the base from half-way through the noise, told
nothing (SDEdit, Meng et al. 2022, arXiv:2108.01073). So it judges what is drawn, not how soft everything
is that the base draws. The network that names subjects sees them in other colours, too, and in more sets
than the one that names styles, for it has to know a thing in a style that it was never shown the thing in.
How well it does is measured on stickers, whose subjects it is not told.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportOptionalCall=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.classifier import SIDE, STYLES, WEIGHTS, IconClassifier

from . import icons, tokenizer
from .autoencoder import compose
from .diffusion import EXPORTED, Painter, scheduler, start_from_base, trained_autoencoder
from .training import Average, Clock, MuonAdam, autocast, device, learning_rate, load, save

SETS = {**icons.STYLES, "streamline-stickies-color": "sticker", "fluent-emoji-high-contrast": "ink"}

# What stickers show, where it is one of the base's subjects. Never learnt from: they tell how well the
# judge knows things in a style that is new to it.
STICKERS = {
    "baby": ("baby",),
    "backpack": ("backpack",),
    "book-library": ("books",),
    "bug": ("bug", "beetle"),
    "compass-1": ("compass",),
    "easter-egg": ("egg",),
    "eiffel-tower": ("tokyo-tower",),
    "ghost": ("ghost",),
    "graph-bar": ("bar-chart",),
    "instruments-piano": ("musical-keyboard",),
    "key": ("key", "old-key"),
    "labtop": ("laptop",),
    "love": ("red-heart", "blue-heart", "green-heart", "yellow-heart", "purple-heart"),
    "mail": ("envelope",),
    "mailbox-2": ("postbox",),
    "mobile-phone": ("mobile-phone",),
    "pen": ("pen", "fountain-pen", "black-nib"),
    "product-cloth": ("t-shirt",),
    "school": ("school",),
    "search": ("magnifying-glass-tilted-left",),
    "slate": ("clapper-board",),
    "snowman": ("snowman", "snowman-without-snow"),
    "star": ("star", "glowing-star"),
    "sun": ("sun", "sun-with-face"),
    "taxi": ("taxi", "automobile"),
    "telescope": ("telescope",),
    "vr-goggle": ("goggles", "diving-mask"),
    "wand": ("magic-wand",),
    "wrench": ("wrench",),
}


@dataclass(frozen=True)
class Icons:
    """Real icons.

    Attributes:
        sharp: as they are, (n, 4, 64, 64) uint8, with transparency.
        soft: on white, encoded and decoded, (n, 3, 64, 64) float16 in -1..1.
        again: the first of them, those of the judged styles, redrawn by the base; the same shape.
        styles: (n,), -1 where it is none of the judged ones.
        labels: (n,), the subject's place in `among`, -1 where it is none of the base's.
        truths: what stickers show, {index: subjects}.
    """

    sharp: torch.Tensor
    soft: torch.Tensor
    again: torch.Tensor
    styles: torch.Tensor
    labels: torch.Tensor
    among: list[str]
    truths: dict[int, set[int]]


def gather(*, subjects_too: bool = True) -> Icons:
    """The icons of all sets, or of those alone whose styles are judged."""
    subjects = list(icons.subjects())
    index: dict[str | None, int] = {name: i for i, name in enumerate(subjects)}
    sharp, soft, again, styles, labels, truths = [], [], [], [], [], {}
    for name in (*SETS, *(("noto-v1", *icons.JUDGED) if subjects_too else ())):
        names, rgba = icons.load_set(name)
        known = [index.get(icons.subject_of(n), -1) for n in names]
        if name == "streamline-stickies-color":
            for i, n in enumerate(names):
                if shown := STICKERS.get(n.removesuffix("-duo")):
                    truths[len(labels) + i] = {subjects.index(s) for s in shown}
            known = [-1] * len(names)
        x = torch.from_numpy(rgba).permute(0, 3, 1, 2)
        sharp.append(F.interpolate(x.float(), size=(SIDE, SIDE), mode="area").round().to(torch.uint8))
        soft.append(through_autoencoder(name, x))
        if name in SETS:
            again.append(redrawn_by_base(name, x))
        styles += [STYLES.index(SETS[name]) if name in SETS else -1] * len(names)
        labels += known
    return Icons(
        torch.cat(sharp),
        torch.cat(soft),
        torch.cat(again),
        torch.tensor(styles),
        torch.tensor(labels),
        subjects,
        truths,
    )


@torch.no_grad()
def through_autoencoder(name: str, rgba: torch.Tensor) -> torch.Tensor:
    """A set's pictures (n, 3, 64, 64) on white in -1..1, encoded and decoded, as float16; made once."""
    path = icons.work_folder() / "soft" / f"{name}.pt"
    if state := load(path):
        return state["pictures"].cpu()  # type: ignore[union-attr]
    model, out = trained_autoencoder(), []
    for part in rgba.split(64):
        x = compose(part, torch.ones(len(part), 3, 1, 1)).to(device())
        with autocast():
            y = model.decode(model.encode(x).latent_dist.mean).sample
        out.append(F.interpolate(y.float(), size=(SIDE, SIDE), mode="area").clamp(-1, 1).half().cpu())
    save(path, {"pictures": torch.cat(out)})
    return torch.cat(out)


@torch.no_grad()
def redrawn_by_base(name: str, rgba: torch.Tensor) -> torch.Tensor:
    """A set's pictures with noise mixed in and taken out by the base for an empty prompt; made once.

    From a fifth to half of the noise: the style stays, and what it is drawn with is the base's own hand.
    """
    path = icons.work_folder() / "soft" / f"{name}-again.pt"
    if state := load(path):
        return state["pictures"].cpu()  # type: ignore[union-attr]
    vae = AutoencoderKL.from_pretrained(EXPORTED / "vae", torch_dtype=torch.float32).to(device()).eval()
    words, out = tokenizer.load(), []
    painter = Painter(words)
    start_from_base(painter)
    painter.to(device()).eval()
    scale = float(vae.config.scaling_factor)
    nothing = torch.tensor(words([""], padding="max_length", truncation=True).input_ids)
    context = painter.text_encoder(nothing.to(device())).last_hidden_state
    a = scheduler().alphas_cumprod
    for i, part in enumerate(rgba.split(64)):
        x = compose(part, torch.ones(len(part), 3, 1, 1)).to(device())
        with autocast():
            z = vae.encode(x).latent_dist.mean.float() * scale
            times = torch.linspace((200, 350, 500)[i % 3], 0, 5).long().tolist()
            z = a[times[0]].sqrt() * z + (1 - a[times[0]]).sqrt() * torch.randn_like(z)
            for now, then in pairwise(times):
                t = torch.full((len(z),), now, device=z.device)
                v = painter.unet(z, t, context.expand(len(z), -1, -1)).sample.float()
                clean = a[now].sqrt() * z - (1 - a[now]).sqrt() * v
                noise = a[now].sqrt() * v + (1 - a[now]).sqrt() * z
                z = clean if then == 0 else a[then].sqrt() * clean + (1 - a[then]).sqrt() * noise
            y = vae.decode(z / scale).sample
        out.append(F.interpolate(y.float(), size=(SIDE, SIDE), mode="area").clamp(-1, 1).half().cpu())
    save(path, {"pictures": torch.cat(out)})
    return torch.cat(out)


def augment(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Turn, scale, shift, soften, add noise to a batch (b, 3, 64, 64); white comes in at the edges."""
    b = len(x)
    scale = torch.tensor(
        [rng.uniform(0.9, 1.2) if rng.random() < 0.8 else rng.uniform(1.5, 2.2) for _ in range(b)]
    )
    angle = torch.tensor([rng.uniform(-0.2, 0.2) if rng.random() < 0.5 else 0.0 for _ in range(b)])
    shift = torch.tensor([[rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15)] for _ in range(b)])
    flip = torch.tensor([rng.choice((1.0, -1.0)) for _ in range(b)])
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = scale * angle.cos() * flip
    theta[:, 0, 1] = -scale * angle.sin()
    theta[:, 1, 0] = scale * angle.sin() * flip
    theta[:, 1, 1] = scale * angle.cos()
    theta[:, :, 2] = shift * scale[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    out = F.grid_sample(x - 1, grid, align_corners=False) + 1
    soft = torch.tensor([rng.random() < 0.3 for _ in range(b)])
    if soft.any():
        side = rng.randint(30, 52)
        small = F.interpolate(out[soft], size=(side, side), mode="area")
        out[soft] = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)
    return out + torch.randn_like(out) * rng.uniform(0, 0.04)


def recolour(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Other colours for a batch (b, 3, 64, 64): mixed channels or gray, and a tint; white stays white.

    A subject must be found in styles with colours of their own, so it must be known by its shape.
    """
    mix = (2 * torch.randn(len(x), 3, 3, generator=rng)).softmax(-1)
    mix[torch.rand(len(x), generator=rng) < 0.3] = 1 / 3
    tint = 0.2 + 0.8 * torch.rand(len(x), 3, 1, 1, generator=rng)
    return 1 - (1 - torch.einsum("bij,bjhw->bihw", mix, x)) * tint


def redraw(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """A batch (b, 3, 64, 64) drawn anew with outlines and two flat tones, in colours of chance, on white.

    Styles differ most in this: what is left of a thing in all of them is its outline and its parts.
    """
    b = len(x)

    def chance(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(b, 1, 1, 1, generator=rng)

    light = x.mean(1, keepdim=True)
    shape = ((1 - x).amax(1, keepdim=True) * 4).clamp(0, 1)
    padded = F.pad(light, (0, 1, 0, 1), mode="replicate")
    across, down = padded[:, :, :-1].diff(dim=3), padded[:, :, :, :-1].diff(dim=2)
    lines = ((across.abs() + down.abs()) * chance(1, 3)).clamp(0, 1)
    lines = F.max_pool2d(lines, 3, 1, 1) if _coin(rng) else lines
    rim = F.max_pool2d(shape, 5, 1, 2) - shape if _coin(rng) else torch.zeros_like(shape)
    fill, line = torch.rand(2, b, 3, 1, 1, generator=rng) * 2 - 1
    fill, line = (fill + 1).clamp(max=1), line * 0.5 - 0.5  # a lighter and a darker one
    second = torch.where(chance(0, 1) < 0.5, torch.ones_like(fill), fill * 0.6 - 0.2)
    tone = torch.where(light > chance(-0.5, 0.7), second, fill)
    y = 1 - shape * (1 - tone)
    mask = torch.maximum(lines, rim)
    return y * (1 - mask) + line * mask


def _coin(rng: torch.Generator) -> bool:
    return bool(torch.rand((), generator=rng) < 0.5)


class Batches:
    """Augmented pictures (b, 3, 64, 64) of chosen icons: shares of them through the autoencoder, and redrawn.

    Only icons of the judged styles can be redrawn.
    """

    def __init__(self, data: Icons, *, soft: float = 0.5, again: float = 0.0) -> None:
        self._sharp, self._soft, self._again = data.sharp, data.soft, data.again
        self._shares = soft, again

    def __call__(self, pick: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        background = torch.rand(len(pick), 3, 1, 1, generator=rng)
        background[torch.rand(len(pick), generator=rng) < 0.7] = 1.0
        x = compose(self._sharp[pick], background)
        kind, (soft, again) = torch.rand(len(pick), generator=rng), self._shares
        use_soft, use_again = kind < soft, kind >= 1 - again
        x[use_soft] = self._soft[pick[use_soft]].float()
        x[use_again] = self._again[pick[use_again]].float()
        return augment(x, random.Random(int(torch.randint(2**31, (), generator=rng))))

    def plain(self) -> Iterator[torch.Tensor]:
        """All icons as they are, on white."""
        for part in self._sharp.split(256):
            yield compose(part, torch.ones(len(part), 3, 1, 1))


def learn(
    network: nn.Module,
    batches: Batches,
    target: torch.Tensor,
    weights: torch.Tensor,
    *,
    minutes: float,
    batch: int,
    recoloured: float = 0.0,
    redrawn: float = 0.0,
) -> nn.Module:
    """The averaged network after `minutes`; shares of its pictures have other colours, or are redrawn."""
    network.to(device())
    average = Average(network, 0.998)
    optimizer = MuonAdam(network, 2e-3, edges=("stem", "head"))
    clock, step, start = Clock(minutes), 0, int(torch.randint(2**40, ()))
    while clock.fraction < 1:
        rng = torch.Generator().manual_seed(start + step)
        pick = torch.multinomial(weights, batch, replacement=True, generator=rng)
        x = batches(pick, rng)
        kind = torch.rand(batch, generator=rng)
        other, drawn = kind < recoloured, kind >= 1 - redrawn
        x[other], x[drawn] = recolour(x[other], rng), redraw(x[drawn], rng)
        network.train()
        with autocast():
            logits = network(x.to(device()))
        loss = F.cross_entropy(logits.float(), target[pick].to(device()), label_smoothing=0.05)
        loss.backward()
        optimizer.step(learning_rate(2e-3, step, clock.fraction))
        average.update(network, step)
        step += 1
        if step % 200 == 0:
            print(f"step {step} {clock.spent / 60:.1f} min loss {loss.item():.3f}", flush=True)

    # Averaged weights need batch statistics of their own.
    final = average.model.train()
    with torch.no_grad():
        for i in range(40):
            rng = torch.Generator().manual_seed(-1 - i)
            final(batches(torch.multinomial(weights, batch, generator=rng), rng).to(device()))
    return final.cpu().eval()


def known_so_far(judge: IconClassifier) -> None:
    """Load what the weights file holds of networks of today's shape."""
    state = load_file(WEIGHTS)
    for name, network in judge.named_children():
        own = {k.removeprefix(f"{name}."): v.float() for k, v in state.items() if k.startswith(f"{name}.")}
        if {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in network.state_dict().items()}:
            network.load_state_dict(own)


def learn_styles(network: nn.Module, data: Icons, minutes: float, batch: int) -> nn.Module:
    """Every style equally often: a set of 200 stickers must not drown. People and signs nobody prompts."""
    styled, known = data.styles >= 0, data.labels >= 0
    rare = ~known & (data.styles < STYLES.index("sticker"))
    counts = torch.bincount(data.styles[styled]).float()
    often = styled * torch.where(rare, 0.2, 1.0) / counts[data.styles.clamp_min(0)].sqrt()
    batches = Batches(data, soft=0.25, again=0.5)
    return learn(network, batches, data.styles, often, minutes=minutes, batch=batch)


def learn_subjects(network: nn.Module, data: Icons, minutes: float, batch: int) -> nn.Module:
    """A third of the pictures in other colours, a third redrawn: subjects are known by their shapes."""
    often, changed = (data.labels >= 0).float(), {"recoloured": 0.35, "redrawn": 0.3}
    return learn(network, Batches(data), data.labels, often, minutes=minutes, batch=batch, **changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=24)
    parser.add_argument(
        "--style",
        type=float,
        default=0.4,
        help="share of the time for the style network; 0 or 1 leave the other as it is",
    )
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--anew", action="store_true", help="do not go on from the weights that are there")
    args = parser.parse_args()
    torch.seed()  # training on: other pictures than last time

    data = gather(subjects_too=args.style < 1)
    judge = IconClassifier(len(data.among))
    if WEIGHTS.exists() and not args.anew:
        known_so_far(judge)
    if args.style > 0:
        judge.style = learn_styles(judge.style, data, args.minutes * args.style, args.batch)
    if args.style < 1:
        judge.subject = learn_subjects(judge.subject, data, args.minutes * (1 - args.style), args.batch)

    batches, styled, known = Batches(data), data.styles >= 0, data.labels >= 0
    with torch.no_grad():
        logits = [judge(x) for x in batches.plain()]
    style, subject = torch.cat([s for s, _ in logits]).argmax(1), torch.cat([s for _, s in logits]).topk(5, 1)
    right = (style == data.styles)[(known & styled) | (data.styles >= STYLES.index("sticker"))]
    top5 = (subject.indices == data.labels[:, None]).any(1)[known & styled]
    new = [bool(truth & set(subject.indices[i].tolist())) for i, truth in data.truths.items()]
    print(f"real icons: style {right.float().mean():.3f}, subject in top 5 {top5.float().mean():.3f}")
    print(f"subject of {len(new)} stickers, a style it was shown no subjects in: top 5 {np.mean(new):.3f}")
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    save_file(state, WEIGHTS, metadata={"subjects": json.dumps(data.among)})


if __name__ == "__main__":
    main()
