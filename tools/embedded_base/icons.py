"""Fetch the icon sets, render them, and say which subjects the base learns.

    python -m tools.embedded_base.icons        # fetch + render everything, about 5 minutes

Every icon becomes one 128 x 128 RGBA picture in `<work>/icons/<set>.npz` (arrays `names`, `pixels`).
Transparency is kept: backgrounds are composed later, when the captions are (see augment.py).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import tarfile
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 128

# The style word that names each set in a caption. The base is trained on these four sets only.
STYLES = {
    "noto": "noto",
    "twemoji": "twemoji",
    "fluent-emoji": "fluent",
    "fluent-emoji-flat": "flat",
}
# Sets the base never sees; they test personalisation and the autoencoder's reach.
UNSEEN = ("streamline-stickies-color", "fluent-emoji-high-contrast", "noto-v1")
# Sets that only the judge sees: who has met a thing in many styles knows it in one more.
JUDGED = (
    "emojione",
    "emojione-monotone",
    "fxemoji",
    "game-icons",
    "icon-park",
    "mdi",
    "ph",
    "streamline-color",
    "streamline-emojis",
    "streamline-plump-color",
)

CATEGORIES = (
    "Animals & Nature",
    "Food & Drink",
    "Objects",
    "Travel & Places",
    "Activities",
    "Smileys & Emotion",
)

# Subjects that say little at 128 pixels, are lettering, or are near copies of one another.
_EXCLUDED = re.compile(
    r"oclock|thirty|moon-face|crescent-moon|gibbous|quarter-moon|-medal$|-suit$|banknote|chart-|speaker-"
    r"|mailbox-|globe-showing|globe-with|-mail$|e-mail|^oncoming-|speech|bubble$|thought|anger|-heart$"
    r"|heart-|hearts$|card-|page-|japanese-|^mahjong|^sun-behind|cloud-with|notes?$|^musical-score|tray"
    r"|folder|calendar|-book$|^mobile-phone-|label|ledger|locked-with|hundred|zzz|collision|dizzy|exclamation"
    r"|dotted|hole|sweat-droplets|dashing|goal-net|umbrella-|closed-umbrella|airplane-|tram-car|^suspension"
    r"|light-rail|monorail|railway-|metro|mountain-|high-speed|trolleybus|minibus|department|convenience"
    r"|love-hotel|hotel|post-office|office-building|hospital|school|bank$|shinto|kaaba|synagogue|hindu|mosque"
    r"|^bridge|cityscape|foggy|fog$|night-with|milky|sunrise-over|sunset|map-of|national-park|desert$|houses"
    r"|house-with|derelict|construction$|wedding|bus-stop|^station|level-slider|control-knobs|linked-|round-"
    r"|incoming|identification|receipt|memo|bookmark-tabs|rolled-up|newspaper|notebook-|placard|nazar|hamsa"
    r"|ballot|money-with|bell-with|camera-with|disk$|optical|magnifying-glass-tilted-right|old-key|funeral"
    r"|headstone|cigarette|chains?$|low-battery|clinking|fork-and-knife|kitchen-knife|pouring|beverage-box"
    r"|shallow-pan|pot-of|bowl-with|steaming|cooked-rice|curry|oden|fish-cake|stuffed|flatbread|falafel|custard"
    r"|shaved|soft-ice|tumbler|guide-dog|service-dog|front-facing|lady-|orangutan|poodle|pig-nose|microbe"
    r"|paw-prints|leaf-fluttering|sheaf|bouquet|wilted|shamrock|rosette|white-flower|nest-with|empty-nest"
    r"|water-buffalo|^ewe|cat-with|crying-cat|grinning-cat|kissing-cat|pouting-cat|smiling-cat|weary-cat"
    r"|no-evil|alien-monster|ogre|goblin|womans-|mans-shoe|one-piece|briefs|shorts|sari|lab-coat|safety-vest"
    r"|clutch|handbag|flat-shoe|thong|x-ray|playing|flower-playing|framed|performing|running-shirt|martial"
    r"|cricket-game|field-hockey|ice-hockey|lacrosse|softball|pine-dec|tanabata|wind-chime|moon-viewing"
    r"|japanese|carp|sparkler|red-envelope|reminder|ribbon$|confetti|flag|mirror-ball|slot|admission|new-moon"
    r"|head-shaking|in-clouds|stop-sign|twelve|high-voltage|cyclone|wind-face|comet|dove|blowfish|chipmunk"
)
# Faces are many and alike: these read at a glance.
_FACES = frozenset(
    "alien angry-face angry-face-with-horns astonished-face clown-face cold-face confounded-face"
    " cowboy-hat-face crying-face disappointed-face disguised-face exploding-head expressionless-face"
    " face-blowing-a-kiss face-savoring-food face-screaming-in-fear face-with-head-bandage"
    " face-with-medical-mask face-with-monocle face-with-tears-of-joy face-with-tongue flushed-face"
    " frowning-face ghost grimacing-face grinning-face hot-face kissing-face loudly-crying-face"
    " money-mouth-face nerd-face neutral-face partying-face pile-of-poo robot skull sleeping-face"
    " smiling-face-with-halo smiling-face-with-heart-eyes smiling-face-with-sunglasses star-struck"
    " thinking-face winking-face worried-face zany-face zipper-mouth-face".split()
)
_HEARTS = frozenset(
    {"red-heart", "blue-heart", "green-heart", "yellow-heart", "broken-heart", "purple-heart"}
)
_ALSO = frozenset(
    "bubble-tea heart-with-arrow cloud-with-rain cloud-with-lightning sun-behind-cloud musical-note"
    " santa-claus astronaut baby eye ear nose mouth bone brain tooth thumbs-up waving-hand"
    " open-book closed-book spiral-notebook mobile-phone old-key dove blowfish teapot cooking"
    " hotel school bank hospital cooked-rice flag-in-hole reminder-ribbon dizzy collision".split()
)


def work_folder() -> Path:
    """Where everything intermediate lives: `LORASTYLE_BASE_WORK`, else `build/embedded_base`."""
    return Path(os.environ.get("LORASTYLE_BASE_WORK", "build/embedded_base"))


def _package(name: str) -> Path:
    """The unpacked npm package `name`, fetched once with `npm pack`."""
    folder = work_folder() / "npm" / name.replace("/", "__")
    if not (folder / "package.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        packed = subprocess.run(
            ["npm", "pack", name, "--json"], cwd=folder, check=True, capture_output=True, text=True
        )
        archive = folder / json.loads(packed.stdout)[0]["filename"].replace("@", "").replace("/", "-")
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                member.name = member.name.split("/", 1)[-1]
                tar.extract(member, folder, filter="data")
        archive.unlink()
    return folder


@cache
def _set(name: str) -> dict[str, object]:
    return json.loads((_package(f"@iconify-json/{name}") / "icons.json").read_text())


def icon_names(name: str) -> list[str]:
    """Every icon of a set, sorted."""
    return sorted(_set(name)["icons"])  # type: ignore[call-overload]


@cache
def categories() -> dict[str, str]:
    """Icon name -> Unicode category, as the sets themselves say."""
    found: dict[str, str] = {}
    for name in ("noto", "twemoji", "fluent-emoji-flat"):
        meta = json.loads((_package(f"@iconify-json/{name}") / "metadata.json").read_text())
        for category, members in meta["categories"].items():
            for member in members:
                found.setdefault(member, category)
    return found


@cache
def subjects() -> tuple[str, ...]:
    """The curated concrete subjects that at least three of the four sets draw, sorted."""
    counts: dict[str, int] = {}
    for style in STYLES:
        for icon in icon_names(style):
            counts[icon] = counts.get(icon, 0) + 1
    chosen = []
    for icon, count in counts.items():
        category = categories().get(icon)
        if count < 3:
            continue
        if category == "Smileys & Emotion":
            keep = icon in _FACES or icon in _HEARTS
        else:
            keep = category in CATEGORIES and not _EXCLUDED.search(icon)
        if keep or icon in _ALSO:
            chosen.append(icon)
    return tuple(sorted(chosen))


def phrase(icon: str) -> str:
    """`red-apple` -> `red apple`."""
    return icon.replace("-", " ")


@cache
def keywords() -> dict[str, tuple[str, ...]]:
    """Icon name -> CLDR keywords, from emojibase."""
    data = json.loads((_package("emojibase-data") / "en" / "data.json").read_text())
    return {
        re.sub(r"[^a-z0-9]+", "-", entry["label"].lower()).strip("-"): tuple(entry.get("tags", ()))
        for entry in data
    }


def _render(icon: dict[str, object], width: int, height: int) -> NDArray[np.uint8]:
    import resvg_py

    view = (
        f"{icon.get('left', 0)} {icon.get('top', 0)} {icon.get('width', width)} {icon.get('height', height)}"
    )
    body = str(icon["body"]).replace("currentColor", "#000")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view}" width="{SIZE}" height="{SIZE}">{body}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.asarray(Image.open(BytesIO(bytes(png))).convert("RGBA").resize((SIZE, SIZE)))


def render_set(name: str, *, keep: set[str] | None = None) -> Path:
    """Render one set (or the icons in `keep`) to `<work>/icons/<name>.npz`; nothing if it is there."""
    target = work_folder() / "icons" / f"{name}.npz"
    if target.exists():
        return target
    data = _set(name)
    icons: dict[str, dict[str, object]] = data["icons"]  # type: ignore[assignment]
    width, height = int(data.get("width", 16)), int(data.get("height", 16))  # type: ignore[arg-type]
    names = [n for n in sorted(icons) if keep is None or n in keep]
    pixels = np.stack([_render(icons[n], width, height) for n in names])
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.npz")
    np.savez(partial, names=np.array(names), pixels=pixels)
    os.replace(partial, target)
    return target


def load_set(name: str) -> tuple[list[str], NDArray[np.uint8]]:
    """Names and RGBA pictures (n, 128, 128, 4) of a rendered set."""
    with np.load(work_folder() / "icons" / f"{name}.npz") as data:
        return [str(n) for n in data["names"]], data["pixels"]


def subject_of(icon: str) -> str | None:
    """The subject that an icon of any set shows: some sets write `red-apple`, some `redapple`."""
    return _by_letters().get(icon.replace("-", ""))


@cache
def _by_letters() -> dict[str, str]:
    return {name.replace("-", ""): name for name in subjects()}


def plain_names(name: str) -> set[str]:
    """Icons of a set without skin-tone variants, flags, people in jobs, and lettering."""
    dull = re.compile(
        r"skin|-(light|medium|dark)$|^(man|woman|person|people|men|women|family|couple|kiss)-|flag"
        r"|button|keycap|latin|letter|oclock|thirty|japanese-.*button|arrow|hands|hand-"
    )
    return {n for n in icon_names(name) if not dull.search(n)}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name in (*STYLES, *UNSEEN, *JUDGED):
        known = {n for n in icon_names(name) if subject_of(n)}
        path = render_set(name, keep=known if name in JUDGED else plain_names(name))
        names, _ = load_set(name)
        print(f"{name:28} {len(names):5} icons  {path.stat().st_size / 1e6:.0f} MB")
    print(f"{len(subjects())} subjects")


if __name__ == "__main__":
    main()
