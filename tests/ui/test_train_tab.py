"""The Train tab in a browser: pictures are dropped, a run is started, followed over a reload, and stopped."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lorastyle.bases import load_base
from lorastyle.train import observe, request_stop
from lorastyle.ui.trainings import Trainings
from lorastyle.ui.visitors import Visitors
from tests.ui.browser import Watched, chromium, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pandas, called by gradio
# gradio calls deprecated parts of pandas

SAMPLES = Path(__file__).parents[2] / "samples" / "ink"
STYLE = Path(__file__).parents[2] / "ui" / "train.css"


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def url(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The tab alone, with a line that counts how often it said that the library changed."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from lorastyle.ui.train_tab import train_tab
    from lorastyle.ui.visiting import visiting

    base = load_base("embedded")
    environment = {"LORASTYLE_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1"}
    trainings = Trainings(library, lambda: base, environment=environment)
    with gr.Blocks(fill_width=True, analytics_enabled=False) as page:
        with gr.Tabs(), gr.Tab("Train"):
            tab = train_tab(trainings, visiting(Visitors(tmp_path_factory.mktemp("visitors"))))
        heard = gr.Textbox(elem_id="heard", label="Library")
        tab.library.change(str, tab.library, heard)
        tab.refresh_on(page.load)
    with served(page, css_paths=[STYLE]) as address:
        yield address
    request_stop(library / "my ink.safetensors")


@pytest.fixture
def watched(browser: Browser, url: str) -> Generator[Watched]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    watched = Watched(context.new_page())
    watched.page.goto(url)
    watched.page.wait_for_selector("#train-start")
    yield watched
    context.close()
    assert watched.complaints == [] and watched.strangers == []


def drop(watched: Watched, *files: Path) -> None:
    watched.page.set_input_files("#train-drop input[type=file]", [str(file) for file in files])


def test_from_pictures_to_a_run_that_outlives_the_page(
    watched: Watched, library: Path, tmp_path: Path
) -> None:
    page, out = watched.page, library / "my ink.safetensors"
    broken = tmp_path / "<img src=x onerror=alert(1)>.png"
    broken.write_bytes(b"no picture")
    (tmp_path / "cat.txt").write_text("a <b>cat</b> {{value}} ${value}")
    page.click("#train-start")
    page.wait_for_selector("#train-problem :text('There are no pictures yet')")
    drop(watched, *(SAMPLES / f"{name}.png" for name in ("cat", "owl", "castle", "guitar")))
    page.wait_for_selector(".lt-used")
    page.wait_for_selector("#train-problem [role=alert]", state="detached")
    drop(watched, broken, tmp_path / "cat.txt")
    page.wait_for_selector(".lt-left-out")
    assert page.inner_text(".lt-count").startswith("4 pictures to train on, 1 left out")
    assert page.locator(".lt-left-out .lt-why").inner_text() == "not a picture, whatever its name says"
    assert "a <b>cat</b> {{value}} ${value}, mystyle style" in page.inner_text("#train-tray")
    page.locator(".lt-left-out .lt-remove").click()
    page.wait_for_selector(".lt-left-out", state="detached")

    page.fill("#train-name input, #train-name textarea", "../ink")
    page.click("#train-start")
    page.wait_for_selector("#train-problem [role=alert]")
    assert "cannot be a name" in page.inner_text("#train-problem") and not list(library.iterdir())
    page.fill("#train-name input, #train-name textarea", "my ink")
    page.click("#train-more button")
    page.focus("#train-rank input")
    page.focus("#train-steps input")
    page.fill("#train-steps input", "300")
    page.wait_for_function("document.querySelector('#train-plan').innerText.includes('300, 4 pictures each')")
    assert page.input_value("#train-rank input") == ""  # gradio's own would say 0
    page.fill("#train-steps input", "400")
    page.fill("#train-rank input", "4")
    page.locator("#train-rank input").blur()
    page.wait_for_function("document.querySelector('#train-plan').innerText.includes('400, 4 pictures each')")
    assert '"myink"' in page.inner_text("#train-plan")

    page.click("#train-start")
    page.wait_for_selector(".lt-curve")
    assert page.inner_text(".lt-state") == "training" and page.inner_text("#train-problem") == ""
    page.reload()
    page.wait_for_selector(".lt-curve")
    assert (page.inner_text(".lt-head h3"), page.inner_text(".lt-state")) == ("my ink", "training")
    status = observe(out)
    assert status.state == "training" and status.trigger == "myink"
    assert sorted(file.name for file in (status.path / "pictures").iterdir()) == [
        *("castle.png", "cat.png", "cat.txt", "guitar.png", "owl.png")
    ]

    assert "my ink" not in page.input_value("#heard textarea, #heard input")
    page.click("#train-stop")
    page.wait_for_selector(".lt-state.lt-calm")
    stopped = observe(out)
    assert (stopped.state, stopped.can_resume, stopped.adapter) == ("stopped", True, out)
    assert 0 < stopped.step < 400
    page.wait_for_selector("#train-go-on")
    assert page.inner_text("#train-go-on") == f"Go on from step {stopped.step}"
    page.wait_for_function(
        "document.querySelector('#heard :is(textarea, input)').value.includes('my ink.safetensors')"
    )
    page.click("#train-log-part button")
    page.wait_for_selector("#train-log textarea")
    assert str(library) not in page.content()


def test_a_narrow_page_is_not_wider_than_its_window(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 844})
    drop(watched, *sorted(SAMPLES.glob("*.png"))[:2])
    page.wait_for_selector("#train-plan dl")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("[data-remove='*']").click()
    page.wait_for_selector(".lt-card", state="detached")
