"""A base on disk, pictures, an adapter, and a command line that is called in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from lorastyle.adapters import Adapter, LowRank, save_adapter
from lorastyle.cli import main
from tests.tiny import tiny_pipeline


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def lorastyle(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Said]:
    """Run a command line in `tmp_path`: `lorastyle("info", "x.safetensors").code`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path / "home"))

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err, "control codes where there is no terminal"
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion folder of one megabyte, 64 x 64."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_base(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny base as the one that is used when none is named."""
    monkeypatch.setenv("LORASTYLE_BASE", str(tiny_folder))
    return str(tiny_folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures, and one file that is none."""
    folder = tmp_path / "dots"
    folder.mkdir()
    for name, colour in {"red-dot": "red", "blue-dot": "blue", "green-dot": "green"}.items():
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def write_adapter(path: Path, *, seed: int = 0, trigger: str = "dots") -> Path:
    """An adapter of rank 2 for two modules of the tiny UNet."""
    generator = torch.Generator().manual_seed(seed)

    def factor(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    path.parent.mkdir(parents=True, exist_ok=True)
    modules = ("to_q", "to_k")
    inputs = {"to_q": 16, "to_k": 16}
    unet = {
        f"down_blocks.0.attentions.0.transformer_blocks.0.attn1.{name}": LowRank(
            factor(2, inputs[name]), factor(16, 2), 2.0
        )
        for name in modules
    }
    metadata = {"lorastyle.trigger": trigger, "lorastyle.base": "sd-16"}
    return save_adapter(Adapter(path.stem, {"unet": unet}, metadata), path)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapters" / "dots.safetensors")
