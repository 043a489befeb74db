"""Does personalisation work? Train on the samples with the defaults, draw what was never seen, and judge.

    python -m benchmarks.quality style                 # samples/sticker and samples/ink
    python -m benchmarks.quality subject               # samples/blob, without and with prior preservation
    python -m benchmarks.quality stack                 # all three together, and within masks
    python -m benchmarks.quality style --adapter sticker=a.safetensors     # judge files that exist

`style`: 64 subjects that are not in the sample, the same seeds with and without the adapter. The judge
(classifier.py) names the style and says whether the prompted subject is in its top 5.
`subject`: likeness to the training pictures by the base's image-text encoder, contexts on the pixels. What
is drawn small, on a colour or beside something is cut out first: likeness is of the thing, not of its place.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.checks import cut_out, has_background, is_pair, is_small
from benchmarks.classifier import Judge
from benchmarks.stacked import stacked
from lorastyle import AdapterUse, Engine, GenerateRequest, load_base
from lorastyle.bases import Likeness
from lorastyle.train import TrainConfig, fit

ROOT = Path(__file__).parents[1]
SHEETS = ROOT / "benchmarks" / "sheets"
SUBJECTS = 64


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def train(sample: str, folder: Path, **settings: object) -> Path:
    """The adapter that `lorastyle train --images samples/<sample>` makes with its defaults."""
    name = settings.get("name", sample)
    paths = {"images": str(ROOT / "samples" / sample), "out": str(folder / f"{name}.safetensors")}
    config = TrainConfig.from_mapping({**paths, **settings})
    return fit(config).adapter


def draw(engine: Engine, prompts: Sequence[str], adapter: Path | None = None) -> list[Image.Image]:
    """One picture per prompt; prompt i has seed i, with and without the adapter."""
    uses = (AdapterUse(str(adapter)),) if adapter else ()
    return [
        engine.generate(GenerateRequest(prompt=p, adapters=uses, seed=i, steps=20))[0].image
        for i, p in enumerate(prompts)
    ]


def keep(pictures: Sequence[Image.Image], name: str) -> None:
    """A contact sheet to look at: a number without a look has fooled many."""
    SHEETS.mkdir(exist_ok=True)
    side, columns = 128, 8
    sheet = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * side), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture.resize((side, side)), (i % columns * side, i // columns * side))
    sheet.save(SHEETS / f"{name}.png")


def style(adapters: dict[str, Path]) -> Table:
    judge, engine = Judge(), Engine(load_base())
    table = Table("sample", "what", "measured", "bar", title="Style")
    with tempfile.TemporaryDirectory() as folder:
        for sample in ("sticker", "ink"):
            seen = {p.stem for p in (ROOT / "samples" / sample).glob("*.png")}
            names = random.Random(0).sample([s for s in judge.subjects if s not in seen], SUBJECTS)
            adapter = adapters.get(sample) or train(sample, Path(folder))
            plain = [article(n.replace("-", " ")) for n in names]
            without = draw(engine, plain)
            styled = draw(engine, [f"{p}, {sample} style" for p in plain], adapter)
            keep(without, f"{sample}-without")
            keep(styled, f"{sample}-with")
            before, after = judge(without), judge(styled)
            named = [sum(v.style == sample for v in verdicts) / SUBJECTS for verdicts in (before, after)]
            found = [
                sum(n in v.subjects for n, v in zip(names, verdicts, strict=True)) / SUBJECTS
                for verdicts in (before, after)
            ]
            table.add_row(sample, "style named, adapter at 1", f"{named[1]:.0%}", "80 % or more")
            table.add_row(sample, "style named, without", f"{named[0]:.0%}", "under 5 %")
            kept = found[1] / max(found[0], 1e-9)
            text = f"{kept:.0%} ({found[1]:.0%} of {found[0]:.0%})"
            table.add_row(sample, "subject kept in top 5", text, "70 % or more")
    return table


FACES = (
    "grinning face",
    "crying face",
    "angry face",
    "thinking face",
    "robot",
    "clown face",
    "alien",
    "ghost",
)


def subject(_: dict[str, Path]) -> Table:
    """Likeness is the mean cosine of image embeddings to the training pictures."""
    engine, likeness = Engine(load_base()), Likeness.load()
    table = Table("what", "base", "adapter", "adapter with prior", title="Subject: samples/blob")
    real = [Image.open(p).convert("RGB") for p in sorted((ROOT / "samples" / "blob").glob("*.png"))]
    target = likeness.images([cut_out(picture) for picture in real])

    def like(pictures: Sequence[Image.Image], left: float = 1.0) -> float:
        things = likeness.images([cut_out(picture, left) for picture in pictures])
        return float((things @ target.T).mean())

    with tempfile.TemporaryDirectory() as folder:
        options = {"trigger": "blobby", "class": "face"}
        bare = train("blob", Path(folder), name="bare", **options)
        kept = train("blob", Path(folder), name="kept", prior=1.0, **options)
        columns: tuple[Path | None, ...] = (None, bare, kept)
        contexts: dict[str, tuple[Callable[[Image.Image], bool], float]] = {
            "a blobby face on a blue background": (lambda p: has_background(p, "blue"), 1.0),
            "a small blobby face": (is_small, 1.0),
            "a blobby face and a deciduous tree": (is_pair, 0.5),  # it is the left one
        }
        own = [draw(engine, ["a blobby face"] * 16, adapter) for adapter in columns]
        keep([p for pictures in own for p in pictures], "blob")
        table.add_row("likeness of 'a blobby face'", *(f"{like(pictures):.3f}" for pictures in own))
        for prompt, (check, part) in contexts.items():
            drawn = [draw(engine, [prompt] * 16, adapter) for adapter in columns]
            keep([p for pictures in drawn for p in pictures], prompt.replace(" ", "-"))
            table.add_row(f"'{prompt}': obeyed", *(f"{sum(map(check, p)) / 16:.0%}" for p in drawn))
            table.add_row(f"'{prompt}': likeness", *(f"{like(p, part):.3f}" for p in drawn))
        others = [
            draw(engine, [f"{article(f)}, noto style" for f in FACES] * 2, adapter) for adapter in columns
        ]
        before = likeness.images(others[0])
        drift = [1 - float((likeness.images(p) * before).sum(-1).mean()) for p in others]
        table.add_row("drift of other faces (1 - cosine)", *(f"{d:.3f}" for d in drift))
    return table


def stack(adapters: dict[str, Path]) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        missing = [sample for sample in ("sticker", "ink", "blob") if sample not in adapters]
        return stacked({**adapters, **{s: train(s, Path(folder)) for s in missing}}, keep)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("style", "subject", "stack"))
    parser.add_argument("--adapter", action="append", default=[], metavar="SAMPLE=FILE")
    args = parser.parse_args()
    torch.manual_seed(0)
    adapters = {k: Path(v) for k, v in (text.split("=", 1) for text in args.adapter)}
    Console().print({"style": style, "subject": subject, "stack": stack}[args.what](adapters))


if __name__ == "__main__":
    main()
