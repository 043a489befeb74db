from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from lorastyle.adapters import Adapter, LowRank, save_adapter
from lorastyle.bases import StableDiffusion
from lorastyle.generate import AdapterUse, Engine
from tests.tiny import tiny_pipeline

MakeAdapter = Callable[..., Path]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Generator[None]:
    """Models this small are faster on one thread, and much faster where other processes want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base() -> StableDiffusion:
    return StableDiffusion(tiny_pipeline(), name="tiny", family="lorastyle-icons", dtype=torch.float32)


@pytest.fixture
def engine(base: StableDiffusion) -> Generator[Engine]:
    made = Engine(base)
    yield made
    made.bank.detach()


@pytest.fixture
def init(tmp_path: Path) -> str:
    """A picture to start from."""
    picture = Image.new("RGB", (64, 64), "orange")
    ImageDraw.Draw(picture).ellipse((10, 10, 40, 50), fill="navy")
    picture.save(tmp_path / "init.png")
    return str(tmp_path / "init.png")


@pytest.fixture
def make_adapter(base: StableDiffusion, tmp_path: Path) -> MakeAdapter:
    """Write an adapter of strong random updates on attention of both components; returns its path."""

    def make(
        name: str = "cat", *, seed: int = 0, family: str = "lorastyle-icons", strength: float = 0.5
    ) -> Path:
        generator = torch.Generator().manual_seed(seed)

        def update(shape: tuple[int, ...]) -> LowRank:
            down = torch.randn((2, shape[1]), generator=generator) * strength
            return LowRank(down, torch.randn((shape[0], 2), generator=generator) * strength, 2.0)

        components = {
            component: {
                path: update(shape)
                for path, shape in shapes.items()
                if path.endswith(("to_q", "to_v", "q_proj", "v_proj"))
            }
            for component, shapes in base.module_shapes().items()
        }
        adapter = Adapter(name, components, {"lorastyle.base": family})
        return Path(save_adapter(adapter, tmp_path / f"{name}.safetensors", dtype="float32"))

    return make


@pytest.fixture
def cat(make_adapter: MakeAdapter) -> AdapterUse:
    return AdapterUse(str(make_adapter("cat")))


@pytest.fixture
def dog(make_adapter: MakeAdapter) -> AdapterUse:
    return AdapterUse(str(make_adapter("dog", seed=5)))
