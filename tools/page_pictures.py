"""The pictures of the page in docs/images: `python -m tools.page_pictures`, three minutes on two cores.

Two adapters are trained on samples/ (or taken from --home, where they are from an earlier run), the page is
served from them, and Chromium draws with both. Wants the extras `ui` and `dev`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
ADAPTERS = ("sticker", "ink")
PROMPT = "a fish, sticker style"
VIEWS = {"page": (1200, 860, False), "page-dark": (1200, 860, True), "page-narrow": (390, 844, False)}
_FILTERED = """name => {
  const options = [...document.querySelectorAll('#pick [role=option]')];
  return options.length > 0 && options.every(option => option.textContent.includes(name));
}"""


def train(home: Path) -> None:
    """What is not there yet."""
    for name in ADAPTERS:
        out = home / "adapters" / f"{name}.safetensors"
        if not out.exists():
            lorastyle(
                home, "train", "--images", str(ROOT / "samples" / name), "--out", str(out), "--no-sheet"
            )


def lorastyle(home: Path, *arguments: str) -> None:
    environment = {**os.environ, "LORASTYLE_HOME": str(home)}
    subprocess.run([sys.executable, "-m", "lorastyle", *arguments], env=environment, cwd=home, check=True)


def draw(page: Page, url: str) -> None:
    """Four pictures with both adapters, one of them weaker."""
    page.goto(url)
    page.wait_for_selector("#go")
    page.fill("#prompt textarea", PROMPT)
    for row, name in enumerate(ADAPTERS):
        page.fill("#pick input", name)
        page.wait_for_function(_FILTERED, arg=name)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#row{row}:has-text('{name}')")
        page.keyboard.press("Escape")
        page.focus("#prompt textarea")  # the list opens when the box is entered
    page.fill("#scale1 input", "0.2")
    page.fill("#seed input", "11")
    page.locator("#seed input").blur()
    page.fill("#number input", "4")
    page.locator("#number input").blur()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#stop:enabled")
    page.wait_for_selector(".ls-done")
    page.wait_for_selector("#go:enabled")


def small(path: Path) -> None:
    """In 256 colours: a third of the bytes."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(256).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, help="a folder for the adapters; a temporary one if left out")
    parser.add_argument("--port", type=int, default=7981)
    args = parser.parse_args()
    home: Path = (args.home or Path(tempfile.mkdtemp())).resolve()
    home.mkdir(parents=True, exist_ok=True)
    train(home)
    served = subprocess.Popen(
        [sys.executable, "-m", "lorastyle", "ui", "--port", str(args.port)],
        env={**os.environ, "LORASTYLE_HOME": str(home)},
        cwd=home,
    )
    try:
        wait_for(args.port)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, (width, height, dark) in VIEWS.items():
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
                )
                context.set_default_timeout(120_000)
                page = context.new_page()
                draw(page, f"http://127.0.0.1:{args.port}")
                page.mouse.move(0, 0)
                page.evaluate("window.scrollTo(0, 0)")
                page.screenshot(path=IMAGES / f"{name}.png")
                small(IMAGES / f"{name}.png")
                context.close()
    finally:
        served.terminate()
        served.wait()
        if args.home is None:
            shutil.rmtree(home)


def wait_for(port: int) -> None:
    """Until the page is served, a minute at most."""
    for _ in range(60):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(1)
    raise SystemExit(f"nothing is served at port {port}")


if __name__ == "__main__":
    main()
