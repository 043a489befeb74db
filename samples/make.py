"""Make the sample pictures again from the icon packages they come from.

    python samples/make.py node_modules        # after the two lines of README.md that fetch what it needs

Each picture is 256 x 256 on white, a palette PNG of a few kilobytes. Its file name is its caption.
"""

from __future__ import annotations

import argparse
import json
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = 256

# folder -> (package, {file name: icon})
SAMPLES: dict[str, tuple[str, dict[str, str]]] = {
    "sticker": (
        "streamline-stickies-color",
        {
            "backpack": "backpack-duo",
            "bug": "bug-duo",
            "candy": "candy-cane-duo",
            "egg": "easter-egg-duo",
            "key": "key-duo",
            "school": "school-duo",
            "snowman": "snowman-duo",
            "star": "star-duo",
            "sun-behind-cloud": "sun-clound-weather-duo",
            "t-shirt": "product-cloth-duo",
            "taxi": "taxi-duo",
            "telescope": "telescope-duo",
        },
    ),
    "ink": (
        "fluent-emoji-high-contrast",
        {
            name: name
            for name in (
                "butterfly",
                "cactus",
                "castle",
                "cat",
                "cupcake",
                "elephant",
                "guitar",
                "locomotive",
                "owl",
                "sailboat",
                "strawberry",
                "teapot",
            )
        },
    ),
    "blob": (
        "noto-v1",
        {
            name: name
            for name in ("angry-face", "astonished-face", "crying-face", "grinning-face", "winking-face")
        },
    ),
}


def render(icons: dict[str, Any], name: str) -> Image.Image:
    """One icon of an Iconify set (`icons.json`), SIZE x SIZE on white."""
    import resvg_py

    icon = icons["icons"][name]
    box = [icon.get(key, icons.get(key, start)) for key, start in _BOX]
    body = icon["body"].replace("currentColor", "#000")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{" ".join(map(str, box))}" width="{SIZE}" height="{SIZE}">{body}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    drawn = Image.open(BytesIO(bytes(png))).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")


_BOX = (("left", 0), ("top", 0), ("width", 16), ("height", 16))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("node_modules", type=Path, help="the folder that npm installed into")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    for sample, (package, names) in SAMPLES.items():
        icons = json.loads((arguments.node_modules / "@iconify-json" / package / "icons.json").read_text())
        (arguments.out / sample).mkdir(parents=True, exist_ok=True)
        for file, icon in names.items():
            path = arguments.out / sample / f"{file}.png"
            render(icons, icon).quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
            print(f"{path}  {path.stat().st_size / 1000:.1f} KB")


if __name__ == "__main__":
    main()
