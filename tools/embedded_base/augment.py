"""Compose captioned training pictures out of icons: what a base needs to recontextualise.

A picture is one icon, or two side by side, of one set; a caption says what it shows, where, how
large, in which hue, on which background, and in which style.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportOptionalCall=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.checks import COLOURS, CORNERS

from . import icons

# Hue angles (degrees) for recolouring; black, gray and brown are no hues.
HUES = {"red": 358, "orange": 28, "yellow": 50, "green": 130, "blue": 216, "purple": 275, "pink": 330}


@dataclass(frozen=True)
class Captioned:
    """One training picture: RGB (128, 128, 3) uint8 and the words for it."""

    pixels: NDArray[np.uint8]
    caption: str


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def recolour(rgba: Image.Image, hue: float) -> Image.Image:
    """Turn every saturated pixel to one hue (degrees), keeping light and shade."""
    alpha = rgba.getchannel("A")
    h, s, v = rgba.convert("RGB").convert("HSV").split()
    h = h.point([round(hue / 360 * 255) % 256] * 256)
    # Pale subjects need some saturation for the hue to show.
    s = s.point([0 if x < 12 else min(255, 60 + x) for x in range(256)])
    out = Image.merge("HSV", (h, s, v)).convert("RGB")
    out.putalpha(alpha)
    return out


def _jitter(colour: tuple[int, int, int], rng: random.Random) -> tuple[int, int, int]:
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
    s, v = min(1, s * rng.uniform(0.9, 1.1)), min(1, v * rng.uniform(0.92, 1.08))
    r, g, b = colorsys.hsv_to_rgb((h + rng.uniform(-0.012, 0.012)) % 1, s, v)
    return round(r * 255), round(g * 255), round(b * 255)


def _paste(canvas: Image.Image, icon: Image.Image, size: int, x: int, y: int) -> None:
    small = icon.resize((size, size), Image.Resampling.LANCZOS) if size != icon.width else icon
    canvas.alpha_composite(small, (x, y))


class Composer:
    """Draws captioned pictures from the rendered icons of the four sets."""

    def __init__(self) -> None:
        self.subjects = icons.subjects()
        wanted = set(self.subjects)
        self.pictures: dict[str, dict[str, Image.Image]] = {}
        for name in icons.STYLES:
            names, pixels = icons.load_set(name)
            self.pictures[name] = {
                n: Image.fromarray(p, "RGBA") for n, p in zip(names, pixels, strict=True) if n in wanted
            }
        self.keys = [(s, n) for s in icons.STYLES for n in sorted(self.pictures[s])]

    def plain(self, key: tuple[str, str]) -> Captioned:
        """The icon as it is, on white."""
        canvas = Image.new("RGBA", (icons.SIZE, icons.SIZE), "white")
        canvas.alpha_composite(self.pictures[key[0]][key[1]])
        text = f"{article(icons.phrase(key[1]))}, {icons.STYLES[key[0]]} style"
        return Captioned(np.asarray(canvas.convert("RGB")), text)

    def varied(self, key: tuple[str, str], rng: random.Random) -> Captioned:
        """The icon with one or two of: background, size, corner, hue, a companion."""
        style, name = key
        size, icon, what = icons.SIZE, self.pictures[style][name], icons.phrase(name)
        kinds = rng.choices(("background", "small", "corner", "hue", "pair"), weights=(5, 3, 2, 3, 5), k=1)
        if kinds[0] != "background" and rng.random() < 0.3:
            kinds.append("background")
        canvas = Image.new("RGBA", (size, size), "white")
        where = ""
        if "background" in kinds:
            word = rng.choice(list(COLOURS))
            canvas.paste((*_jitter(COLOURS[word], rng), 255), (0, 0, size, size))
            where = f" on {article(word)} background"
        if "hue" in kinds:
            word = rng.choice(list(HUES))
            icon, what = recolour(icon, HUES[word]), f"{word} {what}"
        if "small" in kinds:
            side = rng.randint(52, 68)
            room = size - side
            _paste(canvas, icon, side, room // 2 + rng.randint(-8, 8), room // 2 + rng.randint(-8, 8))
            what = f"small {what}"
        elif "corner" in kinds:
            word = rng.choice(list(CORNERS))
            side = rng.randint(54, 66)
            x, y = (round(c * (size - side - 8)) + 4 for c in CORNERS[word])
            _paste(canvas, icon, side, x, y)
            where = f" in the {word} corner{where}"
        elif "pair" in kinds:
            other = rng.choice([k for k in rng.sample(self.keys, 40) if k[0] == style] or [key])
            _paste(canvas, icon, 62, 1 + rng.randint(0, 1), 33 + rng.randint(-4, 4))
            _paste(canvas, self.pictures[style][other[1]], 62, 65, 33 + rng.randint(-4, 4))
            what = f"{what} and {article(icons.phrase(other[1]))}"
        else:
            canvas.alpha_composite(icon)
        text = f"{article(what)}{where}, {icons.STYLES[style]} style"
        return Captioned(np.asarray(canvas.convert("RGB")), text)

    def captions(self, count: int, seed: int = 0) -> list[str]:
        """Captions alone, for the tokenizer."""
        rng = random.Random(seed)
        plain = [f"{article(icons.phrase(n))}, {icons.STYLES[s]} style" for s, n in self.keys]
        words = [w for tags in icons.keywords().values() for w in tags]
        return plain + [self.varied(rng.choice(self.keys), rng).caption for _ in range(count)] + words
