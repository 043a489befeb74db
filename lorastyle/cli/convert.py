"""`lorastyle convert`: an adapter in another form, with the proof that it is the same one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lorastyle.errors import ConfigError, PictureError
from lorastyle.pictures import Unusable, open_picture

from .console import file_size, note, say
from .modules import modules_for
from .remarks import counted

if TYPE_CHECKING:
    from PIL import Image


def convert(
    source: Path,
    out: Path,
    /,
    *,
    format: Literal["kohya", "diffusers", "peft"] = "kohya",
    dtype: Literal["float16", "bfloat16", "float32"] | None = None,
    base: str | None = None,
    partial: Annotated[bool, Parameter(negative="")] = False,
    private: Annotated[bool, Parameter(name="--keep-private", negative="")] = False,
    sidecars: Annotated[bool, Parameter(negative="")] = False,
    preview: Path | None = None,
) -> None:
    """Write an adapter in another form, read that again, and say how far apart both are.

    Any form is read: kohya's, diffusers' and ComfyUI's names, LyCORIS, peft folders.

    Args:
        source: a .safetensors file, or a peft folder.
        out: what to write; a folder for peft. It must not be there yet.
        format: whose names it gets. kohya is what every program reads; SDXL gets the names that it has there.
        dtype: how numbers are stored; as in the source where nothing is said.
        base: what it was made for, where the file is for none of Stable Diffusion 1.x, 2.x and XL.
        private: keep captions, folder names and paths, which are left out otherwise.
        sidecars: write a .json beside it, with the trigger word, that A1111, Forge and InvokeAI show.
        preview: a picture for the file, and beside it for those programs.
        partial: go on where some of the source cannot be read, and write the rest.
    """
    from lorastyle.adapters import convert_adapter, set_metadata, thumbnail, write_sidecars

    if format == "peft" and (sidecars or preview is not None):
        raise ConfigError("A peft folder has nothing beside it. Leave out --sidecars and --preview.")
    picture = None if preview is None else _picture(preview)
    done = convert_adapter(
        source,
        out,
        format=format,
        dtype=dtype,
        modules=modules_for(source, base),
        partial=partial,
        private=private,
    )
    if picture is not None:
        set_metadata(done.path, {"modelspec.thumbnail": thumbnail(picture)})
    if sidecars or picture is not None:
        write_sidecars(done.path, preview=picture)
    if not done.report.complete:
        note(f"{done.report.summary()}.")
    proof = done.comparison
    files = [done.path] if done.path.is_file() else [p for p in done.path.rglob("*") if p.is_file()]
    size = file_size(sum(file.stat().st_size for file in files))
    say(f"{done.path}: {done.format} names, {done.dtype}, {counted(proof.modules, 'module')}, {size}")
    say(
        f"largest difference of an update before and after: {proof.largest:.2g}"
        + (f" (at {proof.where})" if proof.where else "")
        + f"; the largest update is {proof.reach:.2g}"
    )


def _picture(path: Path) -> Image.Image:
    try:
        return open_picture(path).image
    except Unusable as error:
        raise PictureError.at(path, f"{error}.") from error
