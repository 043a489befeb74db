"""Measure the embedded base against its bars, print the table, keep it in the model card.

    python -m tools.embedded_base.evaluate            # about five minutes on two cores

Style and subject are judged by benchmarks/classifier.py, which was trained on real icons only.
Backgrounds, sizes, places and pairs are checked on the pixels.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportOptionalCall=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image

from benchmarks.checks import COLOURS, CORNERS, has_background, in_corner, is_pair, is_small
from benchmarks.classifier import Judge

from . import icons
from .augment import Composer, article
from .autoencoder import pictures, psnr
from .export import TARGET
from .training import autocast

STEPS, GUIDANCE, RESCALE, BATCH = 25, 3.0, 0.7, 16


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, the figure, the bar, in which unit."""

    what: str
    value: float
    bar: float
    unit: str

    @property
    def met(self) -> bool:
        return self.value >= self.bar


def draw(pipe: StableDiffusionPipeline, prompts: Sequence[str], seed: int = 0) -> list[Image.Image]:
    out: list[Image.Image] = []
    for i in range(0, len(prompts), BATCH):
        part = list(prompts[i : i + BATCH])
        rng = [torch.Generator().manual_seed(seed + i + j) for j in range(len(part))]
        with torch.no_grad(), autocast():
            out += pipe(
                part,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                guidance_rescale=RESCALE,
                generator=rng,
            ).images
    return out


# --- the table -----------------------------------------------------------------------------------


def real_rate(judge: Judge, names: Sequence[str]) -> float:
    """How often the judge finds the subject of real icons in its top 5."""
    composer, hits, total = Composer(), 0, 0
    for style in icons.STYLES:
        keys = [(style, n) for n in names if n in composer.pictures[style]]
        verdicts = judge([Image.fromarray(composer.plain(k).pixels) for k in keys])
        hits += sum(k[1] in v.subjects for k, v in zip(keys, verdicts, strict=True))
        total += len(keys)
    return hits / total


def contexts(pipe: StableDiffusionPipeline, names: Sequence[str], rng: random.Random) -> dict[str, float]:
    """Share of prompts obeyed, by kind of context; a quarter of the prompts in each style."""
    styles = list(icons.STYLES.values())

    def share(make: Callable[[str, str], tuple[str, Callable[[Image.Image], bool]]]) -> float:
        made = [make(icons.phrase(n), styles[i % 4]) for i, n in enumerate(names)]
        drawn = draw(pipe, [text for text, _ in made], seed=1000)
        return sum(check(p) for (_, check), p in zip(made, drawn, strict=True)) / len(made)

    def background(what: str, style: str):
        word = rng.choice(list(COLOURS))
        return f"{article(what)} on {article(word)} background, {style} style", lambda p: has_background(
            p, word
        )

    def corner(what: str, style: str):
        where = rng.choice(list(CORNERS))
        return f"{article(what)} in the {where} corner, {style} style", lambda p: in_corner(p, where)

    def pair(what: str, style: str):
        other = icons.phrase(rng.choice(names))
        return f"{article(what)} and {article(other)}, {style} style", is_pair

    return {
        "backgrounds obeyed": share(background),
        "sizes obeyed": share(lambda what, style: (f"a small {what}, {style} style", is_small)),
        "places obeyed": share(corner),
        "pairs obeyed": share(pair),
    }


def measure(folder: Path, count: int) -> list[Row]:
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    vae: AutoencoderKL = pipe.vae
    rng = random.Random(0)
    unseen = []
    for name in icons.UNSEEN:
        _, rgba = icons.load_set(name)
        unseen.append(torch.from_numpy(rgba[:: max(len(rgba) // 40, 1)]).permute(0, 3, 1, 2))
    rows = [
        Row("autoencoder, held-out icons of the four sets", psnr(vae, pictures(held_out=True)), 26, "dB"),
        Row("autoencoder, icons of sets it never saw", psnr(vae, torch.cat(unseen)), 20, "dB"),
    ]
    judge, names = Judge(), rng.sample(list(icons.subjects()), count)
    styles = list(icons.STYLES.values())
    prompts = [(n, s) for n in names for s in styles]
    drawn = draw(pipe, [f"{article(icons.phrase(n))}, {s} style" for n, s in prompts])
    verdicts = judge(drawn)
    style = sum(v.style == s for (_, s), v in zip(prompts, verdicts, strict=True)) / len(prompts)
    subject = sum(n in v.subjects for (n, _), v in zip(prompts, verdicts, strict=True)) / len(prompts)
    rows += [
        Row("style named rightly", 100 * style, 95, "%"),
        Row("subject in top 5, of the rate on real icons", 100 * subject / real_rate(judge, names), 85, "%"),
    ]
    rows += [Row(what, 100 * share, 80, "%") for what, share in contexts(pipe, names[:count], rng).items()]
    sheet = Image.new("RGB", (icons.SIZE * 16, icons.SIZE * 8), "white")
    for i, picture in enumerate(drawn[:128]):
        sheet.paste(picture, (i % 16 * icons.SIZE, i // 16 * icons.SIZE))
    sheet.save(icons.work_folder() / "evaluation.png")
    return rows


def table(rows: Sequence[Row]) -> str:
    lines = ["| what | measured | bar | met |", "|---|---|---|---|"]
    for r in rows:
        lines.append(
            f"| {r.what} | {r.value:.1f} {r.unit} | {r.bar:g} {r.unit} | {'yes' if r.met else 'no'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=TARGET)
    parser.add_argument("--count", type=int, default=64, help="subjects drawn in each style")
    args = parser.parse_args()
    text = table(measure(args.base, args.count))
    print(text)
    card = args.base / "README.md"
    if card.exists():
        old = card.read_text()
        card.write_text(re.sub(r"(?s)(<!-- figures -->\n).*?(<!-- end -->)", rf"\1{text}\n\2", old))


if __name__ == "__main__":
    main()
