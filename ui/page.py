"""The page: a header and the tabs."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import themes

from .draw_tab import draw_tab
from .studio import Studio
from .train_tab import train_tab
from .trainings import Trainings
from .visiting import Visit, visiting
from .visitors import Visitors

_HERE = Path(__file__).parent
CSS, SCRIPT = (_HERE / "page.css", _HERE / "train.css"), _HERE / "page.js"
KEEP_FILES = (3600, 24 * 3600)  # seconds: how often files of the page are looked at, and how old they become

Tab = Callable[[], Any]


def build_page(studio: Studio, trainings: Trainings, visitors: Visitors) -> gr.Blocks:
    """The whole page, not served yet."""
    visit = visiting(visitors)
    with gr.Blocks(
        title="lorastyle", analytics_enabled=False, delete_cache=KEEP_FILES, fill_width=True
    ) as page:
        _header(studio.base.name)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Draw", id="draw", elem_id="tab-draw") as tab:
                draw = draw_tab(studio, visit)
            with gr.Tab("Train", id="train", elem_id="tab-train"):
                train = train_tab(trainings, visit)
        draw.refresh_on(page.load, tab.select, train.library.change)
        draw.kept.bring_back_on(page.load)
        train.refresh_on(page.load)
        page.load(
            opened_on(trainings),
            None,
            tabs,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
        page.unload(_leaving(visitors))
    return page


def theme() -> themes.Base:
    """Fonts of the system alone: nothing is fetched."""
    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")
    base = themes.Base(
        primary_hue=themes.colors.indigo,
        neutral_hue=themes.colors.zinc,
        font=sans,
        font_mono=mono,
        radius_size=themes.sizes.radius_lg,
    )
    # Its own grey of small print has a contrast of 2.6 on white; 4.5 is what can be read.
    return base.set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")


def head() -> str:
    """The page's script, inside the page."""
    return f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"


def _header(base: str) -> None:
    with gr.Row(elem_id="header"):
        gr.HTML(f'<h1>lorastyle</h1><span class="ls-base">base: {escape(_short(base))}</span>', scale=1)
        shade = gr.Button("Light / dark", size="sm", min_width=0, scale=0, elem_id="shade")
        shade.click(None, None, None, js="() => window.lorastyle.shade()", api_visibility="private")


def _short(base: str) -> str:
    """A folder is not the page's business; a Hub id is a name."""
    return Path(base).name if Path(base).exists() else base


def opened_on(trainings: Trainings) -> Callable[[], Any]:
    """A page that is opened, or reloaded, while a training runs shows it."""

    def tab() -> Any:
        return gr.Tabs(selected="train") if trainings.active() else gr.skip()

    return tab


def _leaving(visitors: Visitors) -> Callable[[gr.Request], None]:
    def leave(request: gr.Request) -> None:
        if request.session_hash:
            visitors.leave(request.session_hash)

    return leave


__all__ = ["Visit", "build_page", "head", "opened_on", "theme"]
