"""`lorastyle generate`: pictures from words, with adapters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from lorastyle.errors import AdapterError, ConfigError

from .console import Steps, base_line, note, say
from .interrupt import gentle
from .names import Whole, check_out, names_one_file, parse_size, whole

if TYPE_CHECKING:
    from lorastyle.generate import Engine, GenerateRequest

_MORE = Parameter(group=Group("More settings", sort_key=1))


def generate(
    prompt: str | None = None,
    /,
    *,
    adapter: Annotated[tuple[str, ...], Parameter(("--adapter", "-a"), negative="")] = (),
    negative: str | None = None,
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
    mixture: Annotated[bool, _MORE, Parameter(negative="")] = False,
    combine: Annotated[Literal["composite", "k-lora"] | None, _MORE] = None,
    base: str | None = None,
    like: Path | None = None,
    skip_missing: Annotated[bool, _MORE, Parameter(negative="")] = False,
    format_: Annotated[Literal["png", "jpg", "webp"], _MORE, Parameter("--format")] = "png",
    quality: Annotated[Whole | None, _MORE] = None,
    no_metadata: Annotated[bool, _MORE, Parameter(negative="")] = False,
    preview: Annotated[Path | None, _MORE] = None,
    memory: Annotated[Literal["auto", "fast", "offload", "int8", "nf4", "sequential"] | None, _MORE] = None,
    mode: Annotated[Literal["auto", "bank", "fused"], _MORE] = "auto",
) -> None:
    """Draw pictures from words, with adapters.

        lorastyle generate "a cat" -a sticker:0.8 -a other.safetensors:0.5 --seed 7 -n 4
        lorastyle generate --like picture.png --seed 8

    Every picture carries the whole request that drew it, by names and hashes, without any path. Ctrl-C ends
    it after the step at hand and keeps what is finished; a second one ends it at once.

    Args:
        prompt: what to draw; put an adapter's trigger word into it. A1111's syntax works: (word:1.3),
            [from:to:0.5], [this|that], AND, BREAK.
        adapter: NAME:SCALE, a file or the name of one in ./adapters; scale 1 is as trained. Repeat to stack.
            Options follow: NAME:0.8:te=0.5:start=0.2:stop=0.7:blocks=IN:0,MID:0.5, and NAME:0@0.2,1@0.6 is a
            scale by step. NAME:1:mask=left acts in a part of the picture: a side, a box as 0,0,0.5,1, or a
            picture that is white there, with "outside " before it and " ~0.2" for a soft edge behind. In the
            prompt all of it is <lora:NAME:0.8:...>.
        negative: what to keep out of the picture.
        seed: the same seed draws the same picture; each further picture takes the next one.
        number: how many pictures.
        out: the folder for the pictures, or the name of one: .png, .jpg or .webp.
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
        mixture: experimental: "a [cat:fluffy] on a sofa" has the adapter fluffy act where the picture attends
            to the word cat, as words=cat behind its scale does; twice the time.
        combine: for adapters that get in each other's way: composite asks the base once with each alone and
            averages the answers; k-lora has each layer take the first of two (the subject), and from some
            step on the second (the style). Added up if left out.
        base: "embedded", a checkpoint file, a folder, or a Hub id such as org/model.
        like: a picture of lorastyle, A1111, Forge or InvokeAI: its settings are used where no flag says else.
        skip_missing: with --like, draw without the adapters and pictures that are not here.
        format_: of pictures in a folder.
        quality: 1 to 100, of a .jpg (95 if left out) or .webp (lossless if left out).
        no_metadata: save the pictures without the request that drew them.
        preview: a picture that shows what is being drawn, written anew every few steps.
        memory: how the base is kept, each with less memory: fast, offload, int8, nf4, sequential; the first
            that fits if left out (auto).
        mode: adapters beside the weights (bank), or added to them while a request is drawn (fused): then a
            step costs what it costs without; auto fuses where it is quicker and the same picture.
    """
    from lorastyle.generate import (
        AdapterUse,
        GenerateRequest,
        check_picture_name,
        check_picture_space,
        fetched,
        read_settings,
        with_tags_read,
    )

    width, height = parse_size(size)
    if names_one_file(out) and number != 1:
        raise ConfigError(f"--out {out} names one picture, but --number is {number}. Name a folder instead.")
    suffix = out.suffix if names_one_file(out) else f".{format_}"
    check_picture_name(Path(f"picture{suffix}"), quality)
    if preview is not None:
        _check_preview(preview, out, init, mask, like)
    given = {
        "prompt": prompt,
        "negative_prompt": negative,
        "adapters": tuple(fetched(AdapterUse.parse(text)) for text in adapter) or None,
        "number": number,
        "width": width,
        "height": height,
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
        "mixture": mixture or None,
        "combine": combine,
        "base": base,
        "seed": seed,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if like is not None:
        request, remarks = read_settings(like, changes=given, keep_missing=not skip_missing)
        for remark in remarks:
            note(remark)
    elif prompt is None:
        raise ConfigError('Say what to draw, such as lorastyle generate "a cat", or --like a picture.')
    else:
        request = GenerateRequest.from_dict(given)
    if prompt is not None:
        request = with_tags_read(request)
        request = replace(request, adapters=tuple(fetched(use) for use in request.adapters))
    check_out(out)
    check_picture_space(out, [(request, suffix)])
    try:
        files = [use.find() for use in request.adapters]  # before anything slow
    except AdapterError as error:
        hint = " Name others with -a, or draw without it: --skip-missing." if like and not adapter else ""
        raise AdapterError(f"{error}{hint}") from error
    from lorastyle.bases import AUTO, default_base, default_memory, load_base, needs_download, peek_base
    from lorastyle.generate import Engine, choose_memory, refuse_other_family

    base = request.base
    if like is not None and base not in (None, given.get("base"), default_base()) and needs_download(base):
        raise ConfigError(
            f'{like} was drawn with the base "{base}", which is not in the local cache, and what a picture '
            f"says starts no download. To fetch it, add --base {base}; or name another with --base."
        )
    if peeked := peek_base(base):  # loading a large base takes a while: what cannot fit is told before
        for file in files:
            refuse_other_family(file, peeked.family, base or default_base())
    kept = memory or default_memory()
    loaded = load_base(base, memory=None if kept == AUTO else kept)
    say(base_line(loaded.name, inpainting=loaded.inpainting))
    if kept == AUTO:
        choice = choose_memory(loaded, request)
        loaded.placement.arrange(choice.mode)
        if choice.mode != "fast":
            say(f"memory: {choice.why}")
        engine = Engine(loaded, batch_size=choice.pictures, mode=mode)
    else:
        engine = Engine(loaded, mode=mode)
    draw(engine, request, out, suffix=suffix, metadata=not no_metadata, quality=quality, preview=preview)


def _check_preview(preview: Path, out: Path, *sources: str | Path | None) -> None:
    """Can the preview be written, and is what it replaces no picture that is needed?"""
    if not names_one_file(preview):
        raise ConfigError(f"--preview {preview}: name a picture, such as preview.png.")
    for other in (out, *sources):
        if other is not None and Path(preview).resolve() == Path(other).expanduser().resolve():
            raise ConfigError(
                f"--preview {preview} would replace {other}, which is named as well. Name another file."
            )
    check_out(preview)


def draw(
    engine: Engine,
    request: GenerateRequest,
    out: Path,
    *,
    suffix: str = ".png",
    metadata: bool = True,
    quality: int | None = None,
    preview: Path | None = None,
) -> list[Path]:
    """Draw a request into a folder (or into one picture), telling the progress and each file's name.

    Raises:
        KeyboardInterrupt: Ctrl-C, once the step at hand has ended; its text says what is kept.
    """
    from lorastyle.generate import Picture, PreviewFile, save_picture, slug

    saved: list[Path] = []
    with gentle() as stop, Steps() as progress:

        def save(picture: Picture) -> None:
            path = out / f"{slug(request.prompt)}-{picture.request.seed}{suffix}"
            target = out if names_one_file(out) else path
            saved.append(save_picture(picture, target, metadata=metadata, quality=quality))
            progress.say(str(saved[-1]))

        engine.generate(
            request,
            on_step=partial(progress.update, "drawing"),
            on_picture=save,
            on_preview=None if preview is None else PreviewFile(preview),
            stop=stop,
        )
    if stop.is_set():
        raise KeyboardInterrupt(f"stopped: {len(saved):,} of {request.number:,} pictures are drawn and kept")
    return saved
