"""Class pictures for prior preservation (Ruiz et al. 2022, arXiv:2208.12242).

They are what the base draws for the class without the adapter, so that "a face" stays any face while
"a <trigger> face" becomes the one trained: on their noised latents the adapter is asked for the base's
own answer (see loop.py).

They are drawn when absent and kept under the cache folder, in a folder named by a hash of the model's
weights, the prompt and the way of drawing. Another model or prompt never meets old pictures, and only the
files this module names count; asking for more draws the missing ones.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from lorastyle.adapters import atomic_write, write_advice
from lorastyle.bases import StableDiffusion, as_prompt, cache_folder
from lorastyle.errors import TrainingError

from .cache import CODE_VERSION
from .draw import STEPS, draw
from .weights import WeightHashes


def class_images(
    base: StableDiffusion,
    prompt: str,
    count: int,
    *,
    resolution: int,
    model: str | None = None,
    folder: Path | None = None,
    clip_skip: int = 1,
    progress: Callable[[int, int], bool] = lambda done, total: True,
) -> list[Path]:
    """`count` PNG files of the prompt, drawn by the base; call it before anything is attached.

    Args:
        prompt: as captions are: its brackets are words, not weights.
        model: `model_key(base)`, where it is known already: hashing a large model takes a while.
        folder: where class pictures are kept; None means `class` in the cache folder.
        clip_skip: which text layer is read; 1 is the last.
        progress: called with (done, total) after each batch; False ends early, with fewer files.

    Raises:
        TrainingError: they cannot be written.
    """
    home = (folder or cache_folder() / "class") / _key(
        model or model_key(base), as_prompt(prompt), resolution, clip_skip
    )
    with _told_where(home):
        home.mkdir(parents=True, exist_ok=True)
    files = [home / f"{i:04d}.png" for i in range(count)]
    missing = [i for i, file in enumerate(files) if not _whole(file)]
    many = max(1, 8 * 128 * 128 // (resolution * resolution))
    for start in range(0, len(missing), many):
        some = missing[start : start + many]
        prompts = [as_prompt(prompt)] * len(some)
        pictures = draw(base, prompts, some, resolution=resolution, batch=many, clip_skip=clip_skip)
        for i, picture in zip(some, pictures, strict=True):
            png = io.BytesIO()
            picture.save(png, "PNG")
            with _told_where(home):
                atomic_write(files[i], png.getvalue())
        if not progress(count - len(missing) + start + len(some), count):
            break
    return [file for file in files if file.exists()]


def model_key(of: StableDiffusion | WeightHashes) -> str:
    """A hash of everything of a base that its pictures depend on; of its hashes, where they are known."""
    hashes = of if isinstance(of, WeightHashes) else WeightHashes(of)
    base = hashes.base
    parts = [hashes[name] for name in sorted(base.components)]
    ways = [hashes["vae"], str(base.dtype), f"{base.guidance:g} {base.guidance_rescale:g}"]
    return hashlib.sha256("".join([*parts, *ways]).encode()).hexdigest()


def _key(model: str, prompt: str, resolution: int, clip_skip: int) -> str:
    parts = [model, prompt, resolution, clip_skip, STEPS, CODE_VERSION]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@contextmanager
def _told_where(home: Path) -> Generator[None]:
    """The settings that say where class pictures go, when they cannot go there."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"Class pictures cannot be written to {home} ({error.strerror or error}). "
            f"{write_advice(error)}, or choose another place with --prior-folder or LORASTYLE_CACHE."
        ) from error


def _whole(file: Path) -> bool:
    """Whether the file is a PNG that can be read to its end."""
    try:
        with Image.open(file) as picture:
            picture.load()
    except (OSError, SyntaxError):  # absent, truncated or damaged: drawn again
        return False
    return True
