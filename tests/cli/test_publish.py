"""`lorastyle publish`, and `-a` with a name of the Hub's."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.generate import AdapterUse, GenerateRequest, Picture, save_picture
from tests.hub.conftest import write_adapter
from tests.stand_in import TOKEN, StandIn, point_at, stand_in

from .conftest import Said

Run = Callable[..., Said]
# huggingface_hub's own, where it sends by git's LFS
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[StandIn]:
    with stand_in() as served:
        point_at(served, tmp_path / "hub", monkeypatch)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield served


def test_it_shows_what_it_would_send_and_sends_nothing(lorastyle: Run, hub: StandIn, tmp_path: Path) -> None:
    write_adapter(tmp_path / "ink.safetensors", {"ss_dataset_dirs": '{"ada": 1}'})
    Image.new("RGB", (64, 64)).save(tmp_path / "ink.sheet.png")
    said = lorastyle("publish", "ink.safetensors", "ada/inks")
    assert said.code == 0 and hub.asked == []
    assert "README.md" in said.out and "pictures/01.png" in said.out
    assert "base_model: stable-diffusion-v1-5/stable-diffusion-v1-5" in said.out
    assert said.out.endswith("Nothing was sent. To send it, for you alone to see: add --yes\n")
    assert "Left out of the adapter: ss_dataset_dirs." in said.err


def test_a_folder_is_sent_with_its_pictures(lorastyle: Run, hub: StandIn, tmp_path: Path) -> None:
    write_adapter(tmp_path / "mine" / "ink.safetensors")
    Image.new("RGB", (64, 64)).save(tmp_path / "mine" / "cat.png")
    said = lorastyle("publish", "mine", "ada/inks", "--yes", "--public")
    assert said.code == 0 and f"Published: {hub.endpoint}/ada/inks" in said.out
    there = hub.models["ada/inks"]
    sent = {str(file.relative_to(there).as_posix()) for file in there.rglob("*") if file.is_file()}
    assert sent == {"README.md", "ink.safetensors", "pictures/01.png"}
    again = lorastyle("publish", "mine", "ada/inks", "--yes", "--public")
    assert "The card that is there was left as it is" in again.err
    write_adapter(tmp_path / "mine" / "pen.safetensors")
    two = lorastyle("publish", "mine", "ada/inks")
    assert two.code == 1 and "there is: ink.safetensors, pen.safetensors. Name its file." in two.err


def test_a_name_of_the_hub_is_fetched_and_drawn_with(
    lorastyle: Run, hub: StandIn, tmp_path: Path, tiny_folder: Path, adapter: Path
) -> None:
    hub.models["ada/inks"] = tmp_path / "there"
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "ink.safetensors").write_bytes(adapter.read_bytes())
    drawing = ("generate", "a cat", "--base", tiny_folder, "--steps", 2, "--seed", 1)
    said = lorastyle(*drawing, "-a", "ada/inks:0.5", "-o", "hub.png")
    assert said.code == 0, said.err
    assert lorastyle(*drawing, "-a", f"{adapter}:0.5", "-o", "here.png").code == 0
    assert lorastyle(*drawing, "-o", "without.png").code == 0
    hub_png, here, without = (Image.open(tmp_path / f"{n}.png").tobytes() for n in ("hub", "here", "without"))
    assert hub_png == here != without
    assert "ada/inks/ink.safetensors" in lorastyle("info", "hub.png").out
    like = lorastyle("generate", "--like", "hub.png", "--base", tiny_folder, "-o", "again.png")
    assert like.code == 0 and Image.open(tmp_path / "again.png").tobytes() == here


def test_what_a_picture_says_starts_no_download(
    lorastyle: Run, hub: StandIn, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.models["ada/inks"] = tmp_path / "there"
    write_adapter(tmp_path / "there" / "ink.safetensors")
    said = lorastyle("info", _drawn_elsewhere(tmp_path))
    assert "ada/inks" in said.out + said.err
    like = lorastyle("generate", "--like", "elsewhere.png", "--base", tiny_folder)
    assert like.code == 1 and "To fetch it: -a ada/inks" in like.err
    assert hub.asked == []


def _drawn_elsewhere(folder: Path) -> Path:
    request = GenerateRequest("a cat", adapters=(AdapterUse("ada/inks", 0.8),), seed=1, steps=2)
    return save_picture(Picture(Image.new("RGB", (64, 64)), request), folder / "elsewhere.png")
