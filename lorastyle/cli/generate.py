"""`lorastyle generate`: pictures from words, with adapters."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from lorastyle.errors import ConfigError

from .console import Steps, base_line, say
from .names import Whole, check_out, names_one_file, parse_size, slug, whole

if TYPE_CHECKING:
    from lorastyle.generate import Engine, GenerateRequest

_MORE = Parameter(group=Group("More settings", sort_key=1))


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
    guidance_rescale: Annotated[float | None, _MORE] = None,
    clip_skip: Annotated[Whole | None, _MORE] = None,
    scheduler: str | None = None,
    init: str | None = None,
    strength: float | None = None,
    mask: str | None = None,
    hires: float | None = None,
    hires_strength: Annotated[float | None, _MORE] = None,
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
        guidance: how strictly to follow the prompt, 1 switches it off; the base's own if left out.
        guidance_rescale: how far to undo the overexposure of guidance, 0 to 1; the base's own if left out.
        clip_skip: which text layer is read: 1 is the last, 2 the one before.
        scheduler: ddim, euler, "euler a", "dpm++ 2m" and others; the base's own if left out.
        init: a picture to start from (image to image).
        strength: with --init, how much is drawn anew, above 0 up to 1; 0.6 if left out, all of it where an
            inpainting base fills a mask.
        mask: with --init, a picture that is white where it is drawn anew (inpainting).
        hires: draw, then enlarge that many times and draw the details: 1.5, 2.
        hires_strength: how much of the enlarged picture is drawn anew; 0.4 if left out.
        base: "embedded", a checkpoint file, a folder, or a Hub id such as org/model.
    """
    from lorastyle.generate import AdapterUse, GenerateRequest, find_adapter

    width, height = parse_size(size)
    if names_one_file(out) and number != 1:
        raise ConfigError(f"--out {out} names one picture, but --number is {number}. Name a folder instead.")
    given = {
        "steps": steps,
        "guidance": guidance,
        "guidance_rescale": guidance_rescale,
        "clip_skip": clip_skip,
        "scheduler": scheduler,
        "init": init,
        "strength": strength,
        "mask": mask,
        "hires": hires,
        "hires_strength": hires_strength,
        "base": base,
        "seed": seed,
    }
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
    files = [find_adapter(use.name) for use in request.adapters]  # before anything slow
    from lorastyle.bases import default_base, load_base, peek_base
    from lorastyle.generate import Engine, refuse_other_family

    if peeked := peek_base(base):  # loading a large base takes a while: what cannot fit is told before
        for file in files:
            refuse_other_family(file, peeked.family, base or default_base())
    engine = Engine(load_base(base))
    say(base_line(engine.base.name, inpainting=engine.base.inpainting))
    draw(engine, request, out)


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
