"""What is shown while and after drawing, as HTML. Every text in it is escaped; pictures are data URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from .drawing import View

_LARGEST_PREVIEW = 512


def stage(view: View) -> str:
    """Previews, progress and time left; at the end what came of it."""
    if not view.over:
        return _previews(view.preview) + _progress(view)
    if view.error is not None:
        return message("error", "Nothing was drawn.", view.error) + _notes(view.notes)
    count = len(view.drawn)
    pictures = f"{count} picture" if count == 1 else f"{count} pictures"
    if view.stopped:
        return message("note", "Stopped.", f"{pictures} finished before that." if count else "") + _notes(
            view.notes
        )
    return f'<p class="ls-done" role="status">{pictures} in {duration(view.seconds)}</p>' + _notes(view.notes)


def message(kind: str, title: str, text: str = "") -> str:
    """A card of kind "error" or "note"; lines of `text` are lines."""
    lines = "<br>".join(escape(line) for line in text.splitlines())
    role = "alert" if kind == "error" else "status"
    return f'<div class="ls-card ls-{kind}" role="{role}"><strong>{escape(title)}</strong> {lines}</div>'


def bullets(kind: str, title: str, items: Sequence[str]) -> str:
    """A card with a list in it; nothing at all where the list is empty."""
    if not items:
        return ""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return (
        f'<div class="ls-card ls-{kind}" role="status"><strong>{escape(title)}</strong><ul>{lines}</ul></div>'
    )


def duration(seconds: float) -> str:
    """`0.8` -> `0.8 s`, `75` -> `1 min 15 s`, `3700` -> `1 h 2 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _notes(notes: Sequence[str]) -> str:
    return bullets("note", "Note", notes)


def _progress(view: View) -> str:
    if not view.total:
        return '<div class="ls-bar ls-waiting"><i></i></div><p class="ls-steps">Getting ready …</p>'
    percent = 100 * view.done / view.total
    left = "" if view.left is None else f" · {duration(view.left)} left"
    bar = f'<div class="ls-bar" role="progressbar" aria-label="Drawing" aria-valuenow="{percent:.0f}">'
    bar += f'<i style="width:{percent:.1f}%"></i></div>'
    return f'{bar}<p class="ls-steps">step {view.done} of {view.total}{left}</p>'


def _previews(images: Sequence[Image.Image]) -> str:
    if not images:
        return '<div class="ls-previews ls-blank"></div>'
    shown = "".join(f'<img src="{_data_url(image)}" alt="preview">' for image in images)
    return f'<div class="ls-previews">{shown}</div>'


def _data_url(image: Image.Image) -> str:
    """Inside the page, so that previews never fill a folder."""
    small = image.convert("RGB")
    small.thumbnail((_LARGEST_PREVIEW, _LARGEST_PREVIEW))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
