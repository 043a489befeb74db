"""Adapters together: does each keep what it does alone, and does a mask keep it in its place?

    python -m benchmarks.quality stack --adapter sticker=a.safetensors --adapter blob=b.safetensors ...

Style and subject: blob and sticker, both at 1, added up and combined otherwise, against each alone: stickers
named by the judge, likeness to the training pictures, in colour and in grey. Two styles: sticker and ink at a
half each; the log-odds of sticker over ink lie between those of each alone. Regions: the share of what a
masked adapter changes that lies inside its mask, in squared differences of pixels to the same picture without
it. Mixture: the same for the half of the picture where the thing stands whose word claims the adapter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.table import Table

from benchmarks.checks import cut_out
from benchmarks.classifier import STYLES, Judge, to_input
from lorastyle import AdapterUse, Engine, GenerateRequest, load_base
from lorastyle.bases import Likeness
from lorastyle.generate.fields import field_of
from lorastyle.generate.request import COMBINE

ROOT = Path(__file__).parents[1]
THINGS = ("cat", "tree", "car", "house", "robot", "fish", "bicycle", "flower", "cup", "dog", "boat", "bird",
          "clock", "shoe", "lamp", "hat")  # fmt: skip
MASKS = ("left", "bottom", "center", "outside center", "left ~0.2")
Draw = Callable[..., list[Image.Image]]


def stacked(adapters: dict[str, Path], keep: Callable[[Sequence[Image.Image], str], None]) -> Table:
    """Everything, as a table.

    Args:
        adapters: of the samples sticker, ink and blob.
        keep: puts pictures on a sheet to look at.
    """
    engine = Engine(load_base())
    uses = {name: AdapterUse(str(path)) for name, path in adapters.items()}

    def draw(
        prompts: Sequence[str], *mine: AdapterUse, combine: str | None = None, seed: int = 0
    ) -> list[Image.Image]:
        requests = [
            GenerateRequest(p, adapters=mine, seed=seed + i, steps=20, combine=combine)
            for i, p in enumerate(prompts)
        ]
        return [engine.generate(request)[0].image for request in requests]

    table = Table("what", "measured", "bar", title="Stacks")
    _style_and_subject(table, draw, uses, keep)
    _two_styles(table, draw, uses, keep)
    _regions(table, draw, uses, keep)
    _mixture(table, draw, uses, keep)
    return table


def _style_and_subject(
    table: Table, draw: Draw, uses: dict[str, AdapterUse], keep: Callable[[Sequence[Image.Image], str], None]
) -> None:
    judge, likeness = Judge(), Likeness.load()
    real = [Image.open(p).convert("RGB") for p in sorted((ROOT / "samples" / "blob").glob("*.png"))]

    def named(pictures: Sequence[Image.Image]) -> float:
        return sum(verdict.style == "sticker" for verdict in judge(pictures)) / len(pictures)

    prompts = ["a blob face, sticker style"] * 32
    alone, subject = draw(prompts, uses["sticker"]), draw(["a blob face"] * 32, uses["blob"])
    sheet = [*alone[:16], *subject[:16]]
    for how in (None, *COMBINE):
        both = draw(prompts, uses["blob"], uses["sticker"], combine=how)
        sheet += both[:16]
        stack = f"blob at 1 + sticker at 1, {how or 'added up'}"
        bar = "80 % or more" if how is None else "-"
        table.add_row(
            f"{stack}: stickers named, of alone",
            f"{named(both) / max(named(alone), 1e-9):.0%} ({named(both):.0%} of {named(alone):.0%})",
            bar,
        )
        for what, seen in (("likeness to blob", _as_it_is), ("likeness of grey pictures", _grey)):
            target = likeness.images([seen(cut_out(picture)) for picture in real])
            stacked, own, none = (
                float((likeness.images([seen(cut_out(p)) for p in pictures]) @ target.T).mean())
                for pictures in (both, subject, alone)
            )
            table.add_row(
                f"{stack}: {what}, of alone",
                f"{stacked / own:.0%} ({stacked:.3f} of {own:.3f}, without blob {none:.3f})",
                bar,
            )
    keep(sheet, "stack-style-subject")


def _as_it_is(picture: Image.Image) -> Image.Image:
    return picture


def _grey(picture: Image.Image) -> Image.Image:
    """Its shapes: what colours it has is the style's to say."""
    return ImageOps.autocontrast(picture.convert("L")).convert("RGB")


@torch.no_grad()
def _two_styles(
    table: Table, draw: Draw, uses: dict[str, AdapterUse], keep: Callable[[Sequence[Image.Image], str], None]
) -> None:
    judge = Judge()
    first, second = STYLES.index("sticker"), STYLES.index("ink")

    def odds(pictures: Sequence[Image.Image]) -> float:
        styles = judge.model(to_input(pictures))[0].log_softmax(1)
        return float((styles[:, first] - styles[:, second]).mean())

    half = [AdapterUse(uses[name].name, 0.5) for name in ("sticker", "ink")]
    pictures = {
        "sticker": draw([f"a {thing}, sticker style" for thing in THINGS], uses["sticker"]),
        "half and half": draw([f"a {thing}, sticker style, ink style" for thing in THINGS], *half),
        "ink": draw([f"a {thing}, ink style" for thing in THINGS], uses["ink"]),
    }
    keep([picture for each in pictures.values() for picture in each], "stack-styles")
    found = [odds(each) for each in pictures.values()]
    table.add_row(
        "sticker, half and half, ink: log-odds of sticker over ink",
        " > ".join(f"{value:.1f}" for value in found),
        "the second between",
    )


def _regions(
    table: Table, draw: Draw, uses: dict[str, AdapterUse], keep: Callable[[Sequence[Image.Image], str], None]
) -> None:
    for style in ("sticker", "ink"):
        prompts = [f"a {thing}, {style} style" for thing in THINGS]
        plain, whole = draw(prompts), draw(prompts, uses[style])
        sheet, found, loose = list(plain[:8]), list[str](), list[str]()
        for mask in MASKS:
            use = AdapterUse(uses[style].name, mask=mask)
            masked = draw(prompts, use)
            sheet += masked[:8]
            inside = field_of(use, (plain[0].height, plain[0].width))[1].numpy() > 0
            found.append(f"{_share(plain, masked, inside):.1%}")
            loose.append(f"{_share(plain, whole, inside):.0%}")
        keep(sheet, f"stack-regions-{style}")
        table.add_row(
            f"{style} in {', '.join(MASKS)}: energy inside",
            f"{', '.join(found)} (without a mask {', '.join(loose)})",
            "90 % or more",
        )


def _mixture(
    table: Table, draw: Draw, uses: dict[str, AdapterUse], keep: Callable[[Sequence[Image.Image], str], None]
) -> None:
    pairs = list(zip(THINGS[::2], THINGS[1::2], strict=True))
    prompts = [f"a {first} and a {second}" for first, second in pairs]  # the base draws them side by side
    plain = draw(prompts)
    whole = draw(prompts, uses["sticker"], uses["ink"])
    sheet = [*plain, *whole]
    for side, style in enumerate(("sticker", "ink")):
        claimed = [
            draw([prompt], replace(uses[style], words=pair[side]), seed=i)[0]
            for i, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True))
        ]
        sheet += claimed
        inside = np.zeros((plain[0].height, plain[0].width), bool)
        inside[:, side * plain[0].width // 2 :][:, : plain[0].width // 2] = True
        table.add_row(
            f"{style} claimed by the {('left', 'right')[side]} of two things: energy in its half",
            f"{_share(plain, claimed, inside):.1%} (not claimed "
            f"{_share(plain, draw(prompts, uses[style]), inside):.0%})",
            "-",
        )
    sheet += [
        draw(
            [prompt],
            *(replace(uses[s], words=w) for s, w in zip(("sticker", "ink"), pair, strict=True)),
            seed=i,
        )[0]
        for i, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True))
    ]
    keep(sheet, "stack-mixture")


def _share(plain: Sequence[Image.Image], changed: Sequence[Image.Image], inside: np.ndarray) -> float:
    """Of the squared differences of pixels, how much lies inside."""
    before, after = (np.stack([np.asarray(p, np.float64) for p in each]) for each in (plain, changed))
    energy = ((before - after) ** 2).sum((0, -1))
    return float(np.sum(energy[inside]) / np.sum(energy))
