"""Dropped pictures: kept under safe names, each with its verdict."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.ui import tray as tray_module
from lorastyle.ui.tray import Tray, Verdict, safe_name


@pytest.fixture
def tray(tmp_path: Path) -> Tray:
    return Tray(tmp_path / "tray")


def upload(tmp_path: Path, name: str, colour: str = "red", folder: str = "up") -> Path:
    """A picture as gradio hands it over, or a text where the name says so."""
    path = tmp_path / folder / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".txt":
        path.write_text(colour)
    else:
        Image.new("RGB", (96, 64), colour).save(path, "PNG")
    return path


def verdicts(tray: Tray, **meaning: str) -> dict[str, Verdict]:
    dataset = tray.dataset and tray.dataset.meaning(**meaning)
    return {verdict.file: verdict for verdict in tray.verdicts(dataset, [("again.png", "is enlarged")])}


def test_every_file_has_its_verdict(tray: Tray, tmp_path: Path) -> None:
    assert tray.verdicts(None) == [] and not tray.folder.exists()
    broken = upload(tmp_path, "broken.txt").rename(tmp_path / "up" / "broken.png")
    files = [upload(tmp_path, "ball.png"), broken, upload(tmp_path, "ball.txt", "a ball, rolling")]
    assert tray.add([*files, upload(tmp_path, "again.png")]) == [] and len(tray) == 4
    assert not any(file.exists() for file in files), "moved, not copied"

    found = verdicts(tray, trigger="ink", kind="style")
    assert [(verdict.file, verdict.verdict) for verdict in found.values()] == [
        ("again.png", "used"),
        ("ball.png", "left out"),
        ("broken.png", "left out"),
        ("ball.txt", "words"),
    ]
    used = found["again.png"]
    assert (used.size, used.prompt) == ((96, 64), "a ball, rolling, ink style")
    assert used.thumbnail.startswith("data:image/webp;base64,")
    assert "not a picture" in found["broken.png"].reason and found["broken.png"].thumbnail == ""
    assert (
        found["ball.png"].reason.startswith("the same picture as again.png") and found["ball.png"].thumbnail
    )
    assert used.notes == ("is enlarged",)


def test_where_none_can_be_used_each_still_says_why(tray: Tray, tmp_path: Path) -> None:
    tray.add([upload(tmp_path, "lonely.txt", "words")])
    assert tray.dataset is None
    (alone,) = tray.verdicts(None)
    assert (alone.file, alone.verdict) == ("lonely.txt", "left out") and "without a picture" in alone.reason


def test_names_are_made_safe(tray: Tray, tmp_path: Path) -> None:
    assert safe_name("../../.bashrc") == "bashrc"
    assert safe_name("C:\\a\\b:c*.png") == "b_c_.png"
    assert safe_name("größe 1.JPG") == "größe 1.JPG"
    assert safe_name("a" * 300 + ".png") == "a" * 80 + ".png"
    assert safe_name("...") == "picture" and safe_name(". .png") == "png"
    assert safe_name("metadata.jsonl") == "metadata.jsonl", "lists of captions keep their name"
    tray.add([upload(tmp_path, "cat.png"), upload(tmp_path, "CAT.png", "blue", "other")])
    assert sorted(file.name for file in tray.folder.iterdir()) == ["CAT-2.png", "cat.png"]


def test_only_files_of_the_tray_are_removed(tray: Tray, tmp_path: Path) -> None:
    outside = upload(tmp_path, "outside.png")
    tray.add([upload(tmp_path, "cat.png"), upload(tmp_path, "dog.png", "blue")])
    for name in ("../up/outside.png", str(outside), "", None, ".", ["cat.png"]):
        tray.remove(name)
    assert outside.exists() and len(tray) == 2
    tray.remove("cat.png")
    assert [verdict.file for verdict in tray.verdicts(tray.dataset)] == ["dog.png"]
    tray.clear()
    assert not tray.folder.exists() and tray.dataset is None and tray.verdicts(None) == []


def test_there_are_limits(tray: Tray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tray_module, "MOST_FILES", 1)
    first, second = upload(tmp_path, "a.png"), upload(tmp_path, "b.png", "blue")
    refused = tray.add([first, second])
    assert len(refused) == 1 and refused[0].startswith("b.png: 1 files") and not second.exists()
    monkeypatch.setattr(tray_module, "MOST_FILES", 2)
    monkeypatch.setattr(tray_module, "MOST_BYTES", 100)
    assert "4 GB" in tray.add([upload(tmp_path, "b.png", "blue")])[0] and len(tray) == 1


def test_a_copy_takes_the_place_of_what_was_there(tray: Tray, tmp_path: Path) -> None:
    tray.add([upload(tmp_path, "a.png")])
    target = tmp_path / "run" / "pictures"
    target.mkdir(parents=True)
    (target / "old.png").touch()
    (target.parent / "pictures.new").mkdir()  # what a killed copy left
    tray.copy_to(target)
    assert [file.name for file in target.iterdir()] == ["a.png"]
    assert [folder.name for folder in target.parent.iterdir()] == ["pictures"]
    shutil.rmtree(tray.folder)
    with pytest.raises(OSError):
        tray.copy_to(target)
    assert [file.name for file in target.iterdir()] == ["a.png"], "as it was"
