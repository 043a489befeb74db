"""Visitors of the page never read where something is on the server."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorastyle.errors import AdapterFileError, ConfigError, LorastyleError, PictureError
from lorastyle.generate import Engine
from lorastyle.ui.drawing import View
from lorastyle.ui.form import Form
from lorastyle.ui.places import explain, without_folders
from lorastyle.ui.shelf import Card, Refused
from lorastyle.ui.slots import Row
from lorastyle.ui.studio import Studio
from lorastyle.ui.trainings import TrainForm, Trainings
from lorastyle.ui.tray import Tray
from lorastyle.ui.visitors import Visitors
from tests.train.running import make_pictures

MakeAdapter = Callable[..., Path]


@pytest.fixture
def sticker(make_adapter: MakeAdapter) -> Path:
    """One of two adapters in the library."""
    make_adapter("ink", seed=1)
    return make_adapter("sticker", seed=2)


def form(studio: Studio, prompt: str, **changes: Any) -> Form:
    return replace(Form.empty(studio.base), prompt=prompt, width=64, height=64, steps=2, **changes)


def read_by_visitor(draw: Callable[[], list[View]]) -> str:
    """All that is shown of a drawing besides its images."""
    try:
        views = draw()
    except LorastyleError as error:
        return explain(error)
    return "\n".join((views[-1].error or "", *views[-1].notes))


def assert_hidden(text: str, *places: Path) -> None:
    assert text.strip()
    for place in (*places, Path.home(), Path.cwd(), Path("/tmp")):
        assert str(place) not in text, text


def overwrite(file: Path) -> None:
    file.write_bytes(b"{" * 300)


def fill_with_nan(file: Path) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata=metadata)


def copy_ink(file: Path) -> None:
    shutil.copyfile(file.with_name("ink.safetensors"), file)


@pytest.mark.parametrize(
    ("spoil", "prompt", "expected"),
    [
        (overwrite, "a cat", "sticker.safetensors: "),
        (Path.unlink, "a cat", "sticker.safetensors: the adapter is no longer there"),
        (fill_with_nan, "a cat", "sticker.safetensors: "),
        (copy_ink, "a cat <lora:ink:1>", '"sticker" and "ink" are the same file'),
        (None, "a cat <lora:ink:1:words=dog>", 'the adapter "ink" are not in the prompt'),
        (None, "a cat <lora:sticker:1>", "sticker is there twice"),
        (None, "a cat <lora:ink:1:mask=0,0,2,2>", "mask"),
        (None, "a cat <lora:ink:1:mask=/etc/x.png>", "reads none from the disk"),
        (None, "a cat <lora:ink:1:blocks=nonsense:1>", "nonsense"),
    ],
)
def test_errors_of_adapters(
    studio: Studio,
    visitors: Visitors,
    sticker: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], object] | None,
    prompt: str,
    expected: str,
) -> None:
    """The file is spoilt after the page has listed it, and before it is loaded."""
    visitor = visitors.get("me")
    cards = studio.cards(visitor)
    if spoil is not None:
        spoil(sticker)
        monkeypatch.setattr(studio, "cards", lambda visitor: cards)  # pyright: ignore[reportUnknownLambdaType]
    wanted = form(studio, prompt, adapters=(("sticker", Row(True, 1.0)),))
    text = read_by_visitor(lambda: list(studio.draw(visitor, wanted)))
    assert expected in text
    assert_hidden(text, sticker.parent)


@pytest.mark.parametrize("what", ["gone", "damaged", "no folder to save in"])
def test_errors_of_pictures_and_of_the_disk(
    studio: Studio, visitors: Visitors, tmp_path: Path, what: str
) -> None:
    visitor = visitors.get("me")
    Image.new("RGB", (64, 64)).save(tmp_path / "portrait.png")
    start = studio.take_start(visitor, tmp_path / "portrait.png")
    expected, init = "portrait.png", start.id
    if what == "gone":
        start.path.unlink()
    elif what == "damaged":
        start.path.write_bytes(start.path.read_bytes()[:60])
    else:
        (tmp_path / "out").write_bytes(b"a file where the folder should be")
        expected, init = "a-cat", ""
    text = read_by_visitor(lambda: list(studio.draw(visitor, form(studio, "a cat", init=init))))
    assert expected in text
    assert_hidden(text, tmp_path)


def test_an_unexpected_failure_names_no_file(
    studio: Studio, engine: Engine, visitors: Visitors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(tmp_path / "secret.bin"))

    monkeypatch.setattr(engine, "generate", fail)
    text = read_by_visitor(lambda: list(studio.draw(visitors.get("me"), form(studio, "a cat"))))
    assert "FileNotFoundError" in text
    assert_hidden(text, tmp_path)


def test_uploads_and_dropped_pictures(studio: Studio, visitors: Visitors, tmp_path: Path) -> None:
    visitor = visitors.get("me")
    overwrite(tmp_path / "broken.safetensors")
    verdict = studio.take_in(visitor, tmp_path / "broken.safetensors")
    assert isinstance(verdict, Refused) and verdict.why.startswith("broken.safetensors: ")
    assert_hidden(verdict.why, tmp_path)
    for content in (b"no picture", b"\x89PNG\r\n\x1a\n" + b"0" * 40):
        for take in (studio.take_start, studio.restore):
            (tmp_path / "x.png").write_bytes(content)
            with pytest.raises(PictureError) as error:
                take(visitor, tmp_path / "x.png")
            assert_hidden(explain(error.value), tmp_path)
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(AdapterFileError) as refused:
        studio.take_in(visitor, tmp_path / "x.png")
    assert_hidden(explain(refused.value), tmp_path)


def test_two_adapters_of_one_name_are_told_apart(
    studio: Studio, visitors: Visitors, sticker: Path, tmp_path: Path
) -> None:
    visitor = visitors.get("me")
    (tmp_path / "up").mkdir()
    upload = Path(shutil.copyfile(sticker, tmp_path / "up" / "ink.safetensors"))
    card = studio.take_in(visitor, upload)
    assert isinstance(card, Card)
    wanted = form(studio, "a cat", adapters=(("ink", Row(True, 0.5)), (card.id, Row(True, 0.25))))
    drawn = list(studio.draw(visitor, wanted))[-1].drawn[0]
    assert [(use.name, use.scale) for use in drawn.request.adapters] == [("ink", 0.5), ("ink-2", 0.25)]
    command = studio.command(visitor, drawn.request)
    assert "-a ink:0.5 -a ink.safetensors:0.25" in command
    assert_hidden(command, tmp_path)


def test_errors_of_trainings(engine: Engine, tmp_path: Path) -> None:
    library = tmp_path / "my library"
    library.mkdir()
    trainings = Trainings(library, lambda: engine.base)
    tray = Tray(tmp_path / "tray")
    tray.add(make_pictures(tmp_path / "up").iterdir())
    (library / "ink.safetensors").write_bytes(b"")
    (library / "new.run").write_bytes(b"a file where the folder of the run should be")
    for name in ("ink", "new"):
        with pytest.raises(LorastyleError) as error:
            trainings.start(tray, TrainForm(name=name))
        assert_hidden(explain(error.value), tmp_path)
    shutil.rmtree(tray.folder)
    problem = trainings.look(tray, TrainForm(name="other")).problem
    assert_hidden(problem or "decided before", tmp_path)


@pytest.mark.parametrize(
    "folder", ["/srv/models", "/home/me and you/models", "C:\\Users\\me\\models", "/ünï/models"]
)
def test_what_another_process_wrote(folder: str) -> None:
    mark = "\\" if "\\" in folder else "/"
    file, log = f"{folder}{mark}cat.safetensors", f"{folder}{mark}run.log"
    known = [Path(folder)] if " " in folder else []
    text = without_folders(f'error: {file} cannot be read. See "{log}", 3/4 done; and/or', known)
    assert text == 'error: cat.safetensors cannot be read. See "run.log", 3/4 done; and/or'


@pytest.mark.parametrize(
    "text",
    ["1/2 of them", "a cat/dog", "https://example.org/a/b.png", "org/model", "w/o", "~/x", "steps 3 / 4"],
)
def test_what_only_looks_like_a_folder_stays(text: str) -> None:
    assert without_folders(text) == text


def test_an_error_about_a_file_keeps_its_path_for_its_owner() -> None:
    error = AdapterFileError.at("/srv/my models/cat.safetensors", "it is cut short.")
    assert str(error) == "/srv/my models/cat.safetensors: it is cut short."
    assert error.without_folders() == "cat.safetensors: it is cut short."
    assert error.without_folders("upload 1") == "upload 1: it is cut short."
    assert ConfigError(["a", "b"]).without_folders() == "a\nb"


def test_visitors_who_draw_at_once_read_their_own_notes(studio: Studio, visitors: Visitors) -> None:
    heard: dict[str, tuple[str, ...]] = {}

    def draw(name: str, **more: Any) -> None:
        heard[name] = list(studio.draw(visitors.get(name), form(studio, f"a {name}", **more)))[-1].notes

    long = threading.Thread(target=draw, args=("dog",), kwargs={"clip_skip": 1})
    short = threading.Thread(target=draw, args=("cat",))
    for thread in (long, short):
        thread.start()
    for thread in (long, short):
        thread.join()
    assert heard == {"cat": (), "dog": ()}
