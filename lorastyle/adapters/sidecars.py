"""What A1111 and Forge show of an adapter, and InvokeAI takes in: `<name>.json` and `<name>.png` beside it.

Source: `extensions-builtin/Lora/ui_edit_user_metadata.py` of github.com/AUTOMATIC1111/stable-diffusion-webui.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorastyle.errors import AdapterFileError

from .atomic import atomic_write
from .info import read_info

if TYPE_CHECKING:
    from PIL import Image

SHEET = ".sheet.png"
"""How the file that shows what an adapter changes is called: `<name>.sheet.png`."""
_VERSIONS: Mapping[str, str] = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL"}
_MOST_PREVIEW = 512  # pixels a side


def write_sidecars(
    adapter: str | os.PathLike[str],
    *,
    preview: Image.Image | None = None,
    description: str = "",
    weight: float = 1.0,
    negative: str = "",
    notes: str = "",
) -> list[Path]:
    """Write `<name>.json` beside the adapter file, and `<name>.png` of the preview; answer with their paths.

    What somebody wrote into a `.json` that is there already stays: what is missing or empty is filled in.

    Args:
        preview: a picture that it drew; its own metadata are not kept.
        weight: the scale that suits it.
        negative: what a negative prompt should say.

    Raises:
        AdapterFileError: the adapter is damaged, or a file cannot be written.
    """
    path = Path(adapter)
    info = read_info(path)
    ours: dict[str, object] = {
        "description": description or info.name or path.stem,
        "sd version": _VERSIONS.get(info.family or "", "Unknown"),
        "activation text": info.trigger or "",
        "preferred weight": weight,
        "negative text": negative,
        "notes": notes,
    }
    beside = path.with_suffix(".json")
    there = _read(beside)
    merged = {**ours, **{key: value for key, value in there.items() if value not in ("", None, "Unknown")}}
    written = [beside]
    try:
        atomic_write(beside, json.dumps(merged, indent=4, ensure_ascii=False).encode())
        if preview is not None:
            small = preview.convert("RGB")
            small.thumbnail((_MOST_PREVIEW, _MOST_PREVIEW))
            small.info.clear()
            data = io.BytesIO()
            small.save(data, "PNG", optimize=True)
            atomic_write(path.with_suffix(".png"), data.getvalue())
            written.append(path.with_suffix(".png"))
    except OSError as error:
        raise AdapterFileError.at(beside, f"cannot be written ({error.strerror or error}).") from error
    return written


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterFileError.at(path, f"is there and cannot be read ({error}). Remove it first.") from error
    if not isinstance(found, dict):
        raise AdapterFileError.at(path, "is there and is none of A1111's. Remove it first.")
    return cast("dict[str, object]", found)
