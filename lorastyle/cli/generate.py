"""`lorastyle generate`: pictures from words, with adapters."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorastyle.errors import ConfigError

from .console import Steps
from .names import Whole, check_out, names_one_file, parse_size, slug, whole

if TYPE_CHECKING:
    from lorastyle.generate import Engine, GenerateRequest


def generate(
    prompt: str,
    /,
    *,
    adapter: Annotated[tuple[str, ...], Parameter(("--adapter", "-a"), negative="")] = (),
    negative: str = "",
    seed: Whole | None = None,
    number: Annotated[int, Parameter(("--number", "-n"), converter=whole)] = 1,
    out: Annotated[Path, Parameter(("--out", "-o"))] = Path("pictures"),
    size: str | None = None,
    steps: Whole | None = None,
    guidance: float | None = None,
    scheduler: str | None = None,
    base: str | None = None,
) -> None:
    """Draw pictures from words, with adapters.

        lorastyle generate "a cat" -a sticker:0.8 -a other.safetensors:0.5 --seed 7 -n 4

    Every picture is a PNG that carries the whole request that drew it.

    Args:
        prompt: what to draw; put an adapter's trigger word into it.
        adapter: NAME:SCALE, a file or the name of one in ./adapters; scale 1 is as trained. Repeat to stack.
        negative: what to keep out of the picture.
        seed: the same seed draws the same picture; each further picture takes the next one.
        number: how many pictures.
        out: the folder for the pictures, or the name of one .png.
        size: WIDTHxHEIGHT in pixels, or one number for a square; the base's own size if left out.
        steps: denoising steps; 30 if left out.
        guidance: how strictly to follow the prompt; 5 if left out, 1 switches it off.
        scheduler: ddim, euler, "euler a", "dpm++ 2m" and others; the base's own if left out.
        base: "embedded", a folder, or a Hub id such as org/model.
    """
    from lorastyle.generate import AdapterUse, GenerateRequest

    width, height = parse_size(size)
    if names_one_file(out) and number != 1:
        raise ConfigError(f"--out {out} names one picture, but --number is {number}. Name a folder instead.")
    given = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "base": base, "seed": seed}
    request = GenerateRequest.from_dict(
        {
            "prompt": prompt,
            "negative_prompt": negative,
            "adapters": tuple(AdapterUse.parse(text) for text in adapter),
            "number": number,
            "width": width,
            "height": height,
            **{key: value for key, value in given.items() if value is not None},
        }
    )
    check_out(out)
    from lorastyle.bases import load_base
    from lorastyle.generate import Engine

    draw(Engine(load_base(base)), request, out)


def draw(engine: Engine, request: GenerateRequest, out: Path) -> list[Path]:
    """Draw a request into a folder (or into one .png), telling the progress and each file's name."""
    from lorastyle.generate import Picture, save_picture

    saved: list[Path] = []
    with Steps() as progress:

        def save(picture: Picture) -> None:
            path = out / f"{slug(request.prompt)}-{picture.request.seed}.png"
            saved.append(save_picture(picture, out if names_one_file(out) else path))
            progress.say(str(saved[-1]))

        engine.generate(request, on_step=partial(progress.update, "drawing"), on_picture=save)
    return saved
