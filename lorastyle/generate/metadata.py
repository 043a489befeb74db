"""Pictures that remember their request.

A PNG carries two texts: `parameters`, which other tools read (see `a1111.py`), and `lorastyle`, versioned
JSON with the whole request. Both are data: read with bounds, never evaluated.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from lorastyle.adapters import move_new
from lorastyle.errors import ConfigError, LorastyleError, PictureError

from .a1111 import clamp, clamp_size, read_parameters, write_parameters
from .request import GUIDANCE, STEPS, GenerateRequest

if TYPE_CHECKING:
    from .engine import Picture

FORMAT_VERSION = 2  # 1: brackets were letters, and guidance was never rescaled
MAX_CHUNK = 256 * 1024


def save_picture(picture: Picture, path: str | os.PathLike[str], *, metadata: bool = True) -> Path:
    """Write a PNG, atomically, and never over an existing file: a taken name gets -2, -3 ...

    Args:
        picture: what `Engine.generate` returned.
        path: the file; ".png" is added where it has no suffix. Its folder is made.
        metadata: whether the request goes with it.

    Returns:
        The path that was written.

    Raises:
        PictureError: another suffix than .png, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in ("", ".png"):
        raise PictureError(
            f"Pictures are saved as PNG; {path} ends in {path.suffix}. Name it {path.stem}.png."
        )
    path = path if path.suffix else path.with_name(path.name + ".png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".lorastyle-{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:
                picture.image.save(file, format="PNG", pnginfo=_chunks(picture.request) if metadata else None)
                file.flush()
                os.fsync(file.fileno())
            return _move_to_free_name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise PictureError(
            f"{path} cannot be written ({error.strerror or error}). Choose another folder."
        ) from error


def read_request(path: str | os.PathLike[str]) -> GenerateRequest:
    """The request that drew the picture at `path`; of a picture made elsewhere, what its `parameters` say.

    Numbers beyond what is allowed are clamped.

    Raises:
        PictureError: no PNG, damaged, no request in it, or one that cannot be used.
    """
    path = Path(path)
    texts = _read_texts(path)
    try:
        if "lorastyle" in texts:
            return _parse(texts["lorastyle"])
        if "parameters" in texts:
            return read_parameters(texts["parameters"])
    except ConfigError as error:
        raise PictureError(
            f"{path}: the request in it cannot be used. {'; '.join(error.problems[:5])}"
        ) from error
    except LorastyleError as error:
        raise PictureError(f"{path}: {error}") from error
    raise PictureError(
        f"{path}: there is no request in this picture. It was saved without one, or a web page removed it."
    )


def _chunks(request: GenerateRequest) -> PngImagePlugin.PngInfo:
    libraries = {name: found for name in ("lorastyle", "torch", "diffusers") if (found := _version(name))}
    own = {"version": FORMAT_VERSION, "request": request.to_dict(), "libraries": libraries}
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", write_parameters(request, libraries.get("lorastyle", "")))
    chunks.add_itxt("lorastyle", json.dumps(own, ensure_ascii=False))
    return chunks


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a source tree
        return None


def _move_to_free_name(temporary: Path, path: Path) -> Path:
    """Give the file the first free name of a.png, a-2.png, ...; two writers never get the same one."""
    number = 1
    while True:
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            move_new(temporary, target)
            return target
        except FileExistsError:
            number += 1


def _read_texts(path: Path) -> Mapping[str, str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # no pixel is decoded here
            with Image.open(path, formats=["PNG"]) as image:
                texts = dict(cast("PngImagePlugin.PngImageFile", image).info)
    except FileNotFoundError as error:
        raise PictureError(f"{path}: no such file.") from error
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{path}: this is not a PNG, or a damaged one. Requests are kept in PNG files only."
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path}: the picture cannot be read ({error}).") from error
    found = {key: str(texts[key]) for key in ("lorastyle", "parameters") if isinstance(texts.get(key), str)}
    for key, text in found.items():
        if len(text) > MAX_CHUNK:
            raise PictureError(
                f"{path}: its {key} text has {len(text):,} letters; at most {MAX_CHUNK:,} are read."
            )
    return found


def _parse(text: str) -> GenerateRequest:
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise PictureError(f"its lorastyle text is not valid JSON ({error}).") from error
    chunk = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    request = chunk.get("request")
    if not isinstance(request, dict) or type(chunk.get("version")) is not int:
        raise PictureError("its lorastyle text holds no request.")
    if chunk["version"] == 1:
        request = _as_drawn_then(cast("dict[str, object]", request))
    elif chunk["version"] != FORMAT_VERSION:
        raise PictureError(
            f"its request has the format version {str(chunk['version'])[:20]}; this lorastyle reads "
            f"up to {FORMAT_VERSION}. Update it."
        )
    return GenerateRequest.from_dict(_clamped(cast("dict[str, object]", request)))


def _as_drawn_then(request: dict[str, object]) -> dict[str, object]:
    """What draws a picture of version 1 again."""
    texts = {
        key: re.sub(r"([\\()\[\]])", r"\\\1", text)
        for key in ("prompt", "negative_prompt")
        if isinstance(text := request.get(key), str)
    }
    return {**request, **texts, "guidance_rescale": 0.0}


def _clamped(values: Mapping[str, object]) -> dict[str, object]:
    clamped = {**values, "number": 1}
    for key, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if key in ("width", "height"):
                clamped[key] = clamp_size(value)
            elif key == "steps":
                clamped[key] = int(clamp(value, *STEPS))
            elif key == "guidance":
                clamped[key] = clamp(value, *GUIDANCE)
    return clamped


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
