"""The Draw tab in a browser, served as `lorastyle ui` serves it."""

from __future__ import annotations

import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from lorastyle.generate import Engine
from lorastyle.ui.serve import Options, launch, prepare_environment
from lorastyle.ui.studio import Studio
from lorastyle.ui.trainings import Trainings
from lorastyle.ui.visitors import Visitors
from tests.ui.browser import Watched, chromium

from .conftest import MakeAdapter

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pandas, called by gradio


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with chromium() as found:
        yield found


@contextmanager
def private_page() -> Generator[Path]:
    """The private folder of a page whose environment is this process's for a while."""
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="lorastyle-ui-", ignore_cleanup_errors=True) as name,
    ):
        for variable in ("GRADIO_TEMP_DIR", "GRADIO_EXAMPLES_CACHE", "GRADIO_ANALYTICS_ENABLED"):
            patch.setenv(variable, os.environ.get(variable, ""))  # put back in the end
        prepare_environment(Path(name).resolve())
        yield Path(name).resolve()


@pytest.fixture
def url(studio: Studio, engine: Engine, make_adapter: MakeAdapter, tmp_path: Path) -> Generator[str]:
    make_adapter("cat", seed=1, strength=1.0)
    make_adapter("ink", seed=2, strength=1.0)
    with private_page() as private:
        trainings = Trainings(tmp_path / "trained", lambda: engine.base)
        page = launch(Options(), studio, trainings, Visitors(private))
        yield page.local_url
        page.close(verbose=False)


@pytest.fixture
def watched(browser: Browser, url: str) -> Generator[Watched]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(30_000)
    watched = Watched(context.new_page())
    watched.page.goto(url)
    watched.page.wait_for_selector("#go")
    yield watched
    context.close()
    assert watched.complaints == [] and watched.strangers == []


def pick(watched: Watched, name: str, row: int) -> None:
    page = watched.page
    page.fill("#pick input", "")
    page.type("#pick input", name)
    # Enter takes the one at hand of the list, which is filtered a while after the writing.
    page.wait_for_function(
        """name => {
            const options = [...document.querySelectorAll('#pick [role=option]')];
            return options.length > 0 && options.every(option => option.textContent.includes(name));
        }""",
        arg=name,
    )
    if not page.query_selector("#pick [role=option].active"):
        page.keyboard.press("ArrowDown")
    page.wait_for_selector("#pick [role=option].active")
    page.keyboard.press("Enter")  # a click may miss: the list moves while it opens
    page.wait_for_selector(f"#row{row}:has-text('{name}')")
    page.keyboard.press("Escape")


def write(watched: Watched, field: str, value: str) -> None:
    box = watched.page.locator(f"#{field} :is(input, textarea)").first
    box.fill(value)
    box.blur()


def value(watched: Watched, field: str) -> str:
    return watched.page.locator(f"#{field} :is(input, textarea)").first.input_value()


def draw(watched: Watched, out: Path) -> bytes:
    """Press Ctrl+Enter, wait, and return the pixels of the picture that is new."""
    before = set(out.glob("*.png"))
    watched.page.keyboard.press("Control+Enter")
    watched.page.wait_for_selector("#stop:enabled")
    watched.page.wait_for_selector(".ls-done")
    watched.page.wait_for_selector("#go:enabled")
    (new,) = set(out.glob("*.png")) - before
    with Image.open(new) as image:
        return image.tobytes()


def upload(watched: Watched, *files: Path) -> None:
    with watched.page.expect_file_chooser() as chooser:
        watched.page.click("#upload")
    chooser.value.set_files([str(file) for file in files])


def start_anew(watched: Watched) -> None:
    """Load the page as in a new tab of the browser."""
    watched.page.evaluate("sessionStorage.clear(); window.lorastyle.keep = () => {}")
    watched.page.reload()
    watched.page.wait_for_selector("#go")
    assert value(watched, "prompt") == ""


def test_boxes_may_be_emptied_and_are_checked(watched: Watched, tmp_path: Path) -> None:
    page, out = watched.page, tmp_path / "out"
    write(watched, "prompt", "a cat")
    write(watched, "steps", "3")
    write(watched, "seed", "7")
    plain = draw(watched, out)
    page.click("#more button")
    for field in ("number", "width", "height", "guidance", "clip_skip", "rescale", "hires", "hires_strength"):
        write(watched, field, "")
    assert draw(watched, out) == plain
    write(watched, "steps", "0")
    write(watched, "clip_skip", "99")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#stage:has-text('Nothing was drawn.')")
    said = page.inner_text("#stage")
    assert "Steps is 0; 1 to 150" in said and "Clip skip is 99; 1 to 12" in said
    page.wait_for_selector("#go:enabled")
    write(watched, "steps", "3")
    write(watched, "clip_skip", "1")
    assert draw(watched, out) == plain


def test_a_scale_beyond_the_ends_and_a_failure_leave_a_page_that_draws(
    watched: Watched, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = watched.page
    write(watched, "prompt", "a cat")
    write(watched, "steps", "2")
    pick(watched, "cat", 0)
    write(watched, "scale0", "99")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#stage [role=alert]:has-text('Scale of cat is 99; -10 to 10')")
    page.wait_for_selector("#go:enabled")
    write(watched, "scale0", "2")
    draw(watched, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(studio, "draw", None)  # what no handler of ours expects
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#stage [role=alert]:has-text('Nothing was drawn.')")
        page.wait_for_selector("#go:enabled")
        assert page.is_disabled("#stop")
    draw(watched, tmp_path / "out")


def test_the_keyboard_alone(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    pick(watched, "cat", 0)
    write(watched, "steps", "2")
    pick(watched, "ink", 1)
    page.focus("#prompt textarea")
    page.keyboard.type("a cat")
    draw(watched, tmp_path / "out")  # the gallery comes, and the cursor stays
    page.keyboard.type(", red")
    assert value(watched, "prompt") == "a cat, red"

    unseen: list[str] = []
    names: list[str] = []
    page.focus("#prompt textarea")
    while True:
        page.keyboard.press("Tab")
        at, name, seen = page.evaluate(
            """() => {
                const e = document.activeElement, line = x => x && getComputedStyle(x).outlineStyle;
                const labels = [...(e.labels ?? [])].map(l => l.innerText.trim()).join(" ");
                const around = [e, e.closest(".wrap-inner"), e.closest(".wrap")];
                const name = e.ariaLabel || labels || e.title || e.innerText.trim();
                return [e.closest("[id]:not(input)").id, name,
                        around.some(x => ["solid", "auto"].includes(line(x)))];
            }"""
        )
        names.append(name)
        unseen += [] if seen else [at]
        if at == "command" or len(names) > 60:
            break
    assert unseen == [] and all(names) and names[-1] == "Copy"
    assert {"Take out cat", "Take out ink", "cat", "Scale of ink", "Draw"} <= set(names)
    page.focus("#remove0")
    page.keyboard.press("Enter")
    page.wait_for_selector("#row1", state="hidden")


def test_sliders_change_the_picture_and_keep_their_values(watched: Watched, tmp_path: Path) -> None:
    page, out = watched.page, tmp_path / "out"
    write(watched, "prompt", "a cat")
    write(watched, "steps", "3")
    write(watched, "seed", "7")
    assert page.is_checked("#locked input")  # a seed that was written is kept
    plain = draw(watched, out)
    pick(watched, "cat", 0)
    write(watched, "scale0", "0.35")
    page.wait_for_function("document.querySelector('#slider0 input[type=range]').value === '0.35'")
    pick(watched, "ink", 1)
    assert (value(watched, "scale0"), value(watched, "scale1")) == ("0.35", "1")
    both = draw(watched, out)
    page.focus("#slider1 input[type=range]")
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('#scale1 input').value === '2'")
    stronger = draw(watched, out)
    assert len({plain, both, stronger}) == 3

    page.click("#remove0")  # the other one moves up, with its value
    page.wait_for_selector("#row0:has-text('ink')")
    page.wait_for_selector("#row1", state="hidden")
    assert value(watched, "scale0") == "2"
    pick(watched, "cat", 1)
    assert (value(watched, "scale0"), value(watched, "scale1")) == ("2", "0.35")
    # that of the picture looked at, not of the rows
    assert "-a cat:0.35 -a ink:2.0 --seed 7" in value(watched, "command")
    page.uncheck("#on0 input")
    page.uncheck("#on1 input")
    assert draw(watched, out) == plain
    page.check("#on0 input")
    page.check("#on1 input")
    write(watched, "scale0", "1")
    assert draw(watched, out) != plain
    page.wait_for_function(
        "document.querySelector('#command textarea').value.includes('-a ink:1.0 -a cat:0.35 --seed 7')"
    )
    assert str(tmp_path) not in page.content()


def test_what_stands_in_the_page_outlives_a_reload(
    watched: Watched, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    page, out = watched.page, tmp_path / "out"
    write(watched, "prompt", "a cat <b>'\"")
    write(watched, "steps", "3")
    pick(watched, "cat", 0)
    pick(watched, "ink", 1)
    write(watched, "scale1", "-0.35")
    page.uncheck("#on0 input")
    page.check("#compare input")
    page.uncheck("#compare input")
    first = draw(watched, out)
    seed = value(watched, "seed")
    page.reload()
    page.wait_for_selector("#row1:has-text('ink')")
    fields = [value(watched, field) for field in ("prompt", "steps", "seed", "scale0", "scale1")]
    assert fields == ["a cat <b>'\"", "3", seed, "1", "-0.35"]
    assert not page.is_checked("#on0 input") and not page.is_checked("#locked input")
    page.check("#locked input")
    assert draw(watched, out) == first

    file = make_adapter("mine", seed=3)
    upload(watched, file)
    page.wait_for_selector("#row2:has-text('mine (uploaded)')")
    page.reload()
    page.wait_for_selector("#remarks :text('upload them again')")
    assert page.is_hidden("#row2") and value(watched, "scale1") == "-0.35"
    page.evaluate("sessionStorage.setItem('lorastyle-draw', '[[1,2'); window.lorastyle.keep = () => {}")
    page.reload()
    page.wait_for_selector("#go")
    assert value(watched, "prompt") == "" and page.is_hidden("#row0")


def test_a_dropped_picture_restores_its_settings_and_draws_itself(watched: Watched, tmp_path: Path) -> None:
    page, out = watched.page, tmp_path / "out"
    write(watched, "prompt", "a cat")
    write(watched, "steps", "4")
    pick(watched, "cat", 0)
    write(watched, "scale0", "-3.5")  # further than the slider reaches
    first = draw(watched, out)
    (picture,) = out.glob("*.png")
    seed = value(watched, "seed")
    start_anew(watched)
    page.set_input_files("#drop input[type=file]", str(picture))
    page.wait_for_selector("#remarks [role=status]")
    assert page.inner_text("#remarks") == "Settings restored."
    page.wait_for_selector("#row0:has-text('cat')")
    assert [value(watched, f) for f in ("prompt", "steps", "seed", "scale0")] == ["a cat", "4", seed, "-3.5"]
    assert draw(watched, out) == first

    (tmp_path / "x.png").write_bytes(b"no picture")
    page.set_input_files("#drop input[type=file]", str(tmp_path / "x.png"))
    page.wait_for_selector("#remarks [role=alert]")
    assert str(tmp_path) not in page.inner_text("#remarks") and value(watched, "prompt") == "a cat"


def test_a_picture_to_start_from_and_a_mask(watched: Watched, tmp_path: Path) -> None:
    page, out = watched.page, tmp_path / "out"
    start, mask = tmp_path / "my start.png", tmp_path / "half.png"
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(start)
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 32, 64))
    half.save(mask)
    write(watched, "prompt", "a cat")
    write(watched, "steps", "4")
    write(watched, "seed", "7")
    write(watched, "width", "64")
    write(watched, "height", "64")
    plain = draw(watched, out)
    page.click("#start button")
    (tmp_path / "x.png").write_bytes(b"no picture")
    page.set_input_files("#init input[type=file]", str(tmp_path / "x.png"))
    page.wait_for_selector("#start-problem [role=alert]:has-text('x.png cannot be used')")
    assert page.is_hidden("#mask")
    page.set_input_files("#init input[type=file]", str(start))
    page.wait_for_selector("#init-shown:has-text('my start.png')")
    page.wait_for_selector("#init", state="hidden")
    assert value(watched, "strength") == "0.6"
    six = draw(watched, out)
    write(watched, "strength", "0.3")
    anew = draw(watched, out)
    assert len({plain, six, anew}) == 3
    assert "--init 'my start.png' --strength 0.3" in value(watched, "command")

    page.set_input_files("#mask input[type=file]", str(tmp_path / "black.png"))
    page.wait_for_selector("#mask-shown:has-text('black.png')")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#stage [role=alert]:has-text('black.png: the mask is all black')")
    page.wait_for_selector("#go:enabled")
    page.click("#mask-remove")
    page.set_input_files("#mask input[type=file]", str(mask))
    page.wait_for_selector("#mask-shown:has-text('half.png')")
    before = set(out.glob("*.png"))
    inside = draw(watched, out)
    (picture,) = set(out.glob("*.png")) - before
    with Image.open(start) as kept, Image.open(picture) as drawn:
        right, left = (40, 0, 64, 64), (0, 0, 24, 64)
        assert drawn.crop(right).tobytes() == kept.crop(right).tobytes()  # the black half stays as it is
        assert drawn.crop(left).tobytes() != kept.crop(left).tobytes()
    assert "--mask half.png" in value(watched, "command")
    assert str(tmp_path) not in page.content() and "to-start-from" not in page.content()

    page.click("#init-remove")
    page.wait_for_selector("#init", state="visible")
    assert page.is_hidden("#mask-shown")
    assert draw(watched, out) == plain
    page.set_input_files("#drop input[type=file]", str(picture))  # what it started from is still at hand
    page.wait_for_selector("#init-shown:has-text('my start.png')")
    assert page.inner_text("#remarks") == "Settings restored." and value(watched, "strength") == "0.3"
    assert draw(watched, out) == inside
    start_anew(watched)
    page.set_input_files("#drop input[type=file]", str(picture))
    page.wait_for_selector("#remarks :text('my start.png')")
    page.wait_for_selector("#remarks :text('half.png')")


def test_stop(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    page.click("#go")
    page.wait_for_selector("#stage [role=alert]:has-text('the prompt is empty')")
    write(watched, "prompt", "a cat")
    write(watched, "steps", "150")
    write(watched, "number", "16")
    page.click("#go")
    page.wait_for_selector("#stage .ls-steps:has-text('step')")
    assert page.is_disabled("#go")
    page.click("#stop")
    page.wait_for_selector("#stage :text('Stopped.')")
    page.wait_for_selector("#go:enabled")
    assert page.is_disabled("#stop") and len(list((tmp_path / "out").glob("*"))) < 16
    write(watched, "steps", "2")
    write(watched, "number", "1")
    draw(watched, tmp_path / "out")


def test_an_uploaded_adapter_gets_a_row(watched: Watched, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    page = watched.page
    file = make_adapter("mine", seed=3)
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"\xff" * 40)
    upload(watched, file, wrong)
    page.wait_for_selector("#row0:has-text('mine (uploaded)')")
    page.wait_for_selector("#adapters-note :text('wrong')")
    write(watched, "prompt", "a cat")
    write(watched, "steps", "2")
    draw(watched, tmp_path / "out")


def test_a_narrow_page_is_not_wider_than_its_window(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 844})
    pick(watched, "cat", 0)
    write(watched, "prompt", "word " * 40 + "x" * 200)
    write(watched, "steps", "2")
    page.check("#compare input")
    draw(watched, tmp_path / "out")
    page.wait_for_selector("#slider img")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_other_names_and_other_sites_are_refused(url: str) -> None:
    def status(path: str, **headers: str) -> int:
        data = b"" if "Origin" in headers else None
        request = urllib.request.Request(url.rstrip("/") + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert [status("/config"), status("/config", Host="evil.example")] == [200, 400]
    assert status("/gradio_api/upload", Origin="http://evil.example") == 403
    assert status("/gradio_api/upload", Origin=url.rstrip("/")) != 403
    assert status("/gradio_api/file=/etc/passwd") in (403, 404)
