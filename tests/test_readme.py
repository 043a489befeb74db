"""What people copy: README lines are those of CI, commands parse, Python runs, links lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import diffusers
import pytest
from PIL import Image

import lorastyle
from lorastyle.cli import build_app
from tests.cli.conftest import write_adapter
from tests.tiny import tiny_pipeline

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "samples" / "README.md"])


def fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.+?)\n```", README, re.DOTALL)


def commands() -> list[str]:
    """Every `lorastyle command --flags` of the README and of the samples' page."""
    text = README + (ROOT / "samples" / "README.md").read_text(encoding="utf-8")
    return re.findall(r"(?<=[\n`])lorastyle (?:train|generate|info|demo) [^\n`]+", text)


def test_ci_runs_the_lines_of_the_readme() -> None:
    readme_line = runpy.run_path(str(ROOT / ".ci" / "run.py"))["readme_line"]
    create = "python -m venv .venv && .venv/bin/pip install -c constraints.txt "
    assert readme_line("demo", README) == create + ". && .venv/bin/lorastyle demo"
    assert (
        readme_line("tests", README)
        == create + '-e ".[dev]" && .venv/bin/python -m pytest -n 2 --dist loadfile'
    )
    with pytest.raises(SystemExit, match=r"README\.md"):
        readme_line("nothing", README)


def test_every_command_parses() -> None:
    app, seen = build_app(), commands()
    assert len(seen) >= 6
    for line in seen:
        app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


def test_a_command_that_does_not_exist_would_be_seen() -> None:
    with pytest.raises(Exception, match="--imagges"):
        build_app().parse_args(["train", "--imagges", "x"], exit_on_error=False, print_error=False)


@dataclass
class Pretrained:
    """Stands for the pipeline class: whatever is asked for, it is this one."""

    pipe: object

    def from_pretrained(self, name: str) -> object:
        return self.pipe


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_pipeline()
    unet, modules = pipe.unet, dict(pipe.unet.named_modules())
    write_adapter(tmp_path / "adapters" / "sticker.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(diffusers, "StableDiffusionPipeline", Pretrained(pipe))
    (code,) = fenced("python")
    exec(compile(code, "README.md", "exec"), {})
    with Image.open("cat.png") as picture:
        assert picture.size == (64, 64)
    assert pipe.unet is unet and dict(unet.named_modules()) == modules


def test_six_lines_are_enough() -> None:
    (code,) = fenced("python")
    assert len([line for line in code.splitlines() if line and "import" not in line]) <= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two adapters, and a tiny base that is used when none is named."""
    tiny_pipeline().save_pretrained(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORASTYLE_BASE", str(tmp_path / "tiny"))
    for seed, name in enumerate(("sticker", "ink")):
        write_adapter(tmp_path / "adapters" / f"{name}.safetensors", seed=seed)
    return tmp_path


def test_the_sample_script_stacks_two_adapters(workplace: Path) -> None:
    runpy.run_path(str(ROOT / "samples" / "stack.py"))
    assert len(list((workplace / "pictures").glob("*.png"))) == 4


def test_the_example_of_the_library_runs(workplace: Path) -> None:
    indented = re.findall(r"^(?:    .+\n)+", lorastyle.__doc__ or "", re.MULTILINE)
    exec(compile(dedent("".join(indented)), "lorastyle.__doc__", "exec"), {"lorastyle": lorastyle})
    assert (workplace / "pictures" / "cat.png").exists()
