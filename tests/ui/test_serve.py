"""`lorastyle ui` as a process of its own, in a browser: how it begins and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tiny import tiny_pipeline
from tests.ui.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def browser() -> Generator[Browser]:
    with chromium() as found:
        yield found


def test_it_ends_in_the_middle_of_a_drawing_and_leaves_nothing(browser: Browser, tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "lorastyle", "ui", "--base", str(tmp_path / "tiny"), "-o", "drawn"]
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "LORASTYLE_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                break
        (address,) = re.findall(r"^the page: (http://127\.0\.0\.1:\d+/)$", "".join(said), re.MULTILINE)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector("#go")
        page.fill("#prompt textarea", "a cat")
        page.fill("#steps input", "150")
        page.fill("#number input", "16")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#stage .ls-steps:has-text('step')")
        process.send_signal(signal.SIGTERM)
        said += process.stdout.readlines()
    assert process.returncode == 0, said
    assert len(said) == 3 and list((tmp_path / "tmp").glob("lorastyle-ui-*")) == []
