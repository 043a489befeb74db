"""Every file of a folder is used, belongs to a picture, or is dropped with its reason."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from lorastyle.errors import DatasetError
from lorastyle.samples import folder as sample_folder
from lorastyle.train.config import TrainConfig
from lorastyle.train.dataset import Dataset, scan
from lorastyle.train.objective import seeded
from lorastyle.train.pictures import load_pixels


def picture(path: Path, shade: int = 0, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 99, 7)).save(path, format="JPEG" if path.suffix == ".JPG" else "PNG")


def files(dataset: Dataset) -> list[str]:
    """The names of all that was accounted for."""
    return sorted(entry.name for part in (dataset.used, dataset.dropped, dataset.side) for entry in part)


def test_a_messy_folder_is_accounted_for(tmp_path: Path) -> None:
    folder = tmp_path / "Ünï çøde 猫"
    for i, name in enumerate(("a cat.png", "Dog.JPG", "sub/deep/tree.png", "IMG_0042.png", "日本.png")):
        picture(folder / name, 40 * i)
    (folder / "a cat.txt").write_bytes(b"\xef\xbb\xbfa sleepy cat,\r\n on a mat\r\n")
    (folder / "a cat.caption").write_text("another")
    (folder / "Dog.caption").write_bytes("ein großer Hund".encode("latin-1"))
    (folder / "a cta.txt").write_text("no picture")
    (folder / "notes.md").write_bytes(b"x")
    (folder / "phone.HEIC").write_bytes(b"x")
    (folder / "logo.svg").write_bytes(b"<svg/>")
    (folder / "photo.CR2").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "._a cat.png").write_bytes(b"x")
    (folder / "sub" / "Thumbs.db").write_bytes(b"x")
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("I am no picture")
    (folder / "again.png").write_bytes((folder / "a cat.png").read_bytes())
    found = scan(folder)

    assert {s.name: (s.caption.text, s.caption.source) for s in found.used} == {
        "Dog.JPG": ("ein großer Hund", "Dog.caption"),
        "IMG_0042.png": ("", ""),
        "a cat.png": ("a sleepy cat, on a mat", "a cat.txt"),
        "sub/deep/tree.png": ("tree", "file name"),
        "日本.png": ("日本", "file name"),
    }
    assert {d.name: d.reason for d in found.dropped} == {
        "a cta.txt": 'a caption without a picture of that name. Did you mean "a cat"?',
        "again.png": "the same picture as a cat.png",
        "logo.svg": "a drawing made of shapes, not pixels: export it as PNG, 512 pixels or more a side",
        "notes.md": "not a picture",
        "phone.HEIC": "a HEIC photo, as phones take them: open it and export it as JPEG",
        "photo.CR2": "a camera's raw file: develop it and export it as JPEG or PNG",
        "text.png": "not a picture, whatever its name says",
        "zero.png": "an empty file (0 bytes): copy it again",
    }
    assert {s.name: s.what for s in found.side} == {
        ".DS_Store": "written by macOS, no picture",
        "._a cat.png": "written by macOS, no picture",
        "Dog.caption": "caption of Dog.JPG",
        "a cat.caption": "not used: a cat.txt comes first",
        "a cat.txt": "caption of a cat.png",
        "sub/Thumbs.db": "written by Windows, no picture",
    }
    there = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert files(found) == sorted(there), "each file once"
    (dog,) = (s for s in found.used if s.name == "Dog.JPG")
    assert dog.notes == (
        "Dog.caption is not in UTF-8 and was read as Windows-1252: check its accents and quotation marks",
    )
    assert dog.sha256 == hashlib.sha256((folder / "Dog.JPG").read_bytes()).hexdigest()


def test_empty_captions_and_capital_endings(tmp_path: Path) -> None:
    for i, name in enumerate(("red-apple.png", "owl.png", "IMG_1.png")):
        picture(tmp_path / name, i)
    (tmp_path / "red-apple.txt").write_text(" \r\n")
    (tmp_path / "owl.TXT").write_text("a wise owl")
    (tmp_path / "IMG_1.png.txt").write_text("a tea cup")
    found = {s.name: s for s in scan(tmp_path).used}
    assert {name: s.caption.text for name, s in found.items()} == {
        "red-apple.png": "",
        "owl.png": "a wise owl",
        "IMG_1.png": "a tea cup",
    }
    assert found["red-apple.png"].notes == ("red-apple.txt is empty: no caption",)


def test_links(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    picture(folder / "a.png", 1)
    picture(tmp_path / "out" / "b.png", 2)
    (folder / "outside.png").symlink_to(tmp_path / "out" / "b.png")
    (folder / "inside.png").symlink_to(folder / "a.png")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "round").symlink_to(folder)
    (folder / "elsewhere").symlink_to(tmp_path / "out")
    (folder / "self.png").symlink_to("self.png")
    found = scan(folder)
    assert [s.name for s in found.used] == ["a.png", "outside.png"]
    reasons = {d.name: d.reason for d in found.dropped}
    assert reasons.keys() == {"elsewhere/", "gone.png", "inside.png", "round/", "self.png"}
    assert reasons["inside.png"] == "the same picture as a.png"
    assert reasons["gone.png"] == "a link to a file that is not there"
    assert "not followed" in reasons["round/"] and "not followed" in reasons["elsewhere/"]


def test_kohya_folders_and_those_that_are_left_alone(tmp_path: Path) -> None:
    for i, name in enumerate(
        ("10_sks dog/1.png", "10_sks dog/2.png", "3_reg/x/9.png", ".git/5.png", "a.run/6.png")
    ):
        picture(tmp_path / name, i)
    found = scan(tmp_path)
    assert {s.name: s.repeats for s in found.used} == {
        "10_sks dog/1.png": 10,
        "10_sks dog/2.png": 10,
        "3_reg/x/9.png": 3,
    }
    assert "10_sks dog/: its number is kohya's count of repeats. Each of its 2 pictures" in found.notes[0]
    assert len(found.notes) == 2
    assert {s.name: s.what for s in found.side} == {
        ".git/": "a hidden folder, not looked into",
        "a.run/": "a training run's own folder",
    }


def test_captions_that_differ_make_a_style_and_others_a_subject(tmp_path: Path) -> None:
    for i, name in enumerate(("red-apple", "owl", "tea-cup")):
        picture(tmp_path / "ink" / f"{name}.png", i)
        picture(tmp_path / "10_Blobby" / f"IMG_{i}.png", i)
        picture(tmp_path / "same" / f"cat-{i}.png", i)
        picture(tmp_path / "few" / (f"{name}.png" if i < 2 else "IMG_7.png"), i)
    for i in range(3, 6):
        picture(tmp_path / "few" / f"IMG_{i}.png", i)
    style, subject = scan(tmp_path / "ink"), scan(tmp_path / "10_Blobby")
    assert (style.kind, style.trigger) == ("style", "ink") and "3 different captions" in style.why
    assert [s.prompt for s in style.used] == [
        "an owl, ink style",
        "a red apple, ink style",
        "a tea cup, ink style",
    ]
    assert [s.class_prompt for s in style.used] == ["an owl", "a red apple", "a tea cup"]
    assert (subject.kind, subject.trigger) == ("subject", "blobby") and "no captions" in subject.why
    assert {(s.prompt, s.class_prompt) for s in subject.used} == {("a blobby", "")}
    same, few = scan(tmp_path / "same"), scan(tmp_path / "few")
    assert same.kind == "subject" and "same caption" in same.why
    assert few.kind == "subject" and "only 2 different captions" in few.why
    picture(tmp_path / "one" / "owl.png", 0)
    one = scan(tmp_path / "one")
    assert one.kind == "subject" and one.why.startswith("there is only one picture: it shows one thing (if")
    assert scan(tmp_path / "few", kind="style").why == "as asked for"
    named = scan(tmp_path / "ink", class_name="face", trigger="ohwx")
    assert (named.kind, {s.prompt for s in named.used}) == ("subject", {"an ohwx face"})
    assert {s.class_prompt for s in named.used} == {"a face"} and "class was named" in named.why


def test_what_a_person_wrote_is_kept(tmp_path: Path) -> None:
    for i, words in enumerate(("photo of Ohwx on a sofa", "red apple", "")):
        picture(tmp_path / f"{i}.png", i)
        (tmp_path / f"{i}.txt").write_text(words)
    found = scan(tmp_path, trigger="ohwx")
    assert [(s.prompt, s.class_prompt) for s in found.used] == [
        ("photo of Ohwx on a sofa", "photo on a sofa"),
        ("red apple, ohwx style", "red apple"),
        ("ohwx style", ""),
    ]
    subject = scan(tmp_path, trigger="ohwx", class_name="apple")
    assert [s.prompt for s in subject.used] == ["photo of Ohwx on a sofa", "red ohwx apple", "an ohwx apple"]


def test_lists_of_captions(tmp_path: Path) -> None:
    for i, name in enumerate(("1.png", "sub/2.png", "3.png", "4.png")):
        picture(tmp_path / name, i)
    lines = [
        json.dumps({"file_name": "1.png", "text": "a blue door"}),
        "{broken",
        json.dumps({"file_name": "sub/2.png", "text": "a red door"}),
        json.dumps({"file_name": "5.png", "text": "a lost door"}),
        json.dumps({"text": "a door"}),
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    (tmp_path / "captions.json").write_text(
        json.dumps({"3.png": "a green door", "4.png": {"caption": "a gate"}})
    )
    found = scan(tmp_path)
    assert {s.name: (s.caption.text, s.caption.source) for s in found.used} == {
        "1.png": ("a blue door", "metadata.jsonl"),
        "sub/2.png": ("a red door", "metadata.jsonl"),
        "3.png": ("a green door", "captions.json"),
        "4.png": ("a gate", "captions.json"),
    }
    assert found.notes == (
        "metadata.jsonl: line 2 is not written as JSON; it is left out",
        'metadata.jsonl: line 4 is about "5.png", which is not there',
        'metadata.jsonl: line 5 has no "file_name" with a "text"; it is left out',
    )
    assert [s.what for s in found.side] == ["captions of the folder"] * 2
    (tmp_path / "1.txt").write_text("my own door")
    assert scan(tmp_path).used[0].caption.text == "my own door", "a file beside the picture wins"


def test_the_settings_of_a_run_say_the_same(tmp_path: Path) -> None:
    picture(tmp_path / "x" / "owl.png", 1)
    picture(tmp_path / "x" / "cat.png", 2)
    said = {"trigger": "ohwx", "class_name": "bird", "kind": "style", "background": "black"}
    config = TrainConfig(images=str(tmp_path / "x"), **said)  # type: ignore[arg-type]
    assert scan(config) == scan(tmp_path / "x", **said)  # type: ignore[arg-type]
    assert scan(config) != scan(tmp_path / "x")


def test_pixels_of_a_picture(tmp_path: Path) -> None:
    image = Image.new("RGBA", (96, 32), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 48, 32))
    image.save(tmp_path / "a.png")
    pixels = load_pixels(tmp_path / "a.png", 16, "blue")
    assert pixels.shape == (3, 16, 16) and pixels.dtype == torch.float32
    assert pixels[:, 8, 1].tolist() == [-1, -1, 1]
    assert pixels[:, 8, 14].tolist() == pytest.approx([200 / 127.5 - 1, -1, -1])


def test_nothing_usable_stops_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no")
    (tmp_path / "broken" / "b.heic").write_bytes(b"no")
    with pytest.raises(DatasetError) as caught:
        scan(tmp_path / "broken")
    assert str(caught.value).splitlines() == [
        f'No picture in "{tmp_path / "broken"}" can be used:',
        "  a.png: not a picture, whatever its name says",
        "  b.heic: a HEIC photo, as phones take them: open it and export it as JPEG",
        "Put in at least one PNG, JPEG or WebP picture and start again; five to twenty are best.",
    ]
    assert [name for name, _ in caught.value.dropped] == ["a.png", "b.heic"]
    assert "HEIC" in caught.value.dropped[1][1]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="the folder is empty"):
        scan(tmp_path / "empty")
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"")
    with pytest.raises(DatasetError, match="there is none in it"):
        scan(tmp_path / "empty")
    with pytest.raises(DatasetError, match=r'there is no folder ".*brokn"\. Did you mean "broken"\?'):
        scan(tmp_path / "brokn")
    with pytest.raises(DatasetError, match=r"is a file\. Name the folder it lies in"):
        scan(tmp_path / "file.png")


def test_what_may_not_be_read_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, name in enumerate(("a.png", "b.png", "c.png", "locked/d.png")):
        picture(tmp_path / name, i)
    (tmp_path / "c.txt").write_text("a cup")
    read, opened, walked = Path.read_bytes, Path.open, os.scandir

    def read_bytes(path: Path) -> bytes:
        if path.name == "a.png":
            raise PermissionError(13, "Permission denied")
        return read(path)

    def open_path(path: Path, *args: object, **kwargs: object) -> object:
        if path.name == "c.txt":
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)  # type: ignore[call-overload]

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return walked(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(Path, "open", open_path)
    monkeypatch.setattr(os, "scandir", scandir)
    found = scan(tmp_path)
    assert {s.name: s.notes for s in found.used} == {
        "b.png": (),
        "c.png": ("its caption c.txt cannot be read (Permission denied)",),
    }
    assert {d.name: d.reason for d in found.dropped} == {
        "a.png": "cannot be read (Permission denied): change who may read it",
        "locked/": "the folder cannot be read (Permission denied)",
    }


@pytest.mark.parametrize(("name", "kind"), [("ink", "style"), ("sticker", "style")])
def test_the_shipped_samples_need_no_word(name: str, kind: str) -> None:
    found = scan(sample_folder(name))
    assert (found.kind, found.trigger, len(found.used), found.dropped) == (kind, name, 12, ())
    assert not any(s.notes for s in found.used)
    assert all(s.prompt.endswith(f", {name} style") for s in found.used)


def test_file_names_that_end_in_one_noun_name_the_class() -> None:
    found = scan(sample_folder("blob"))
    assert (found.kind, found.class_name) == ("subject", "face") and "face" in found.why
    assert {(s.prompt, s.class_prompt) for s in found.used} == {("a blob face", "a face")}
    as_style = scan(sample_folder("blob"), kind="style")
    assert as_style.class_name == "" and "an angry face, blob style" in {s.prompt for s in as_style.used}
    assert scan(sample_folder("blob"), class_name="smiley").class_name == "smiley"
    assert scan(sample_folder("sticker")).class_name == ""


def test_what_pictures_are_is_not_what_they_show(tmp_path: Path) -> None:
    for i, thing in enumerate(("cat", "dog", "tree")):
        Image.new("RGB", (64, 64), (60 * i, 0, 0)).save(tmp_path / f"{thing}-icon.png")
    found = scan(tmp_path)
    assert (found.kind, found.class_name) == ("style", "")


def test_what_pictures_are_for_is_decided_anew_without_opening_them(tmp_path: Path) -> None:
    for i, name in enumerate(("cat", "dog", "owl")):
        picture(tmp_path / f"{name}.png", 40 * i)
    as_style = scan(tmp_path, trigger="ink")
    for file in tmp_path.iterdir():
        file.unlink()
    as_subject = as_style.meaning(trigger="blob", class_name="pet")
    assert [s.prompt for s in as_style.used] == [f"{a}, ink style" for a in ("a cat", "a dog", "an owl")]
    assert {sample.prompt for sample in as_subject.used} == {"a blob pet"}
    assert (as_style.kind, as_subject.kind, as_subject.class_name) == ("style", "subject", "pet")
    assert as_subject.meaning(trigger="ink") == as_style


def test_own_sheets_are_no_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "cat.png")
    Image.new("RGB", (640, 640), "blue").save(tmp_path / "ink.sheet.png")
    found = scan(tmp_path)
    assert [s.name for s in found.used] == ["cat.png"]
    assert [(s.name, s.what) for s in found.side] == [("ink.sheet.png", "the sheet of a training")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_in_no_encoding(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9 cat.png"
    Image.new("RGB", (64, 64), "red").save(tmp_path / "plain.png")
    os.rename(tmp_path / "plain.png", path)
    (sample,) = scan(tmp_path).used
    assert sample.prompt.isprintable()
    assert seeded(0, 0, sample.name).initial_seed() != seeded(0, 0, "plain.png").initial_seed()


def test_the_words_of_a_picture_that_is_there_twice_are_kept(tmp_path: Path) -> None:
    for name in ("IMG_1.png", "red-door.png", "zebra.png"):
        picture(tmp_path / name)
    (tmp_path / "red-door.txt").write_text("a red door")
    (tmp_path / "zebra.txt").write_text("a zebra")
    found = scan(tmp_path)
    assert [(s.name, s.caption.text) for s in found.used] == [("IMG_1.png", "a red door")]
    reasons = {file.name: file.reason for file in found.dropped}
    assert "takes over its caption" in reasons["red-door.png"]
    assert "has a caption of its own" in reasons["zebra.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["cat.txt", "metadata.jsonl"])
def test_a_pipe_in_the_place_of_captions_is_not_waited_for(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "cat.png")
    os.mkfifo(tmp_path / name)
    found = scan(tmp_path)
    told = " ".join([*found.notes, *(note for s in found.used for note in s.notes)])
    assert "not an ordinary file" in told and len(found.used) == 1


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-32", "utf-16"])
def test_wide_encodings(tmp_path: Path, encoding: str) -> None:
    picture(tmp_path / "cat.png")
    (tmp_path / "cat.txt").write_bytes("a sleeping cat".encode(encoding))
    (sample,) = scan(tmp_path).used
    assert sample.caption.text == "a sleeping cat"
    assert ("no byte order mark" in " ".join(sample.notes)) == encoding.endswith("e")


def test_lines_of_json_end_at_line_ends_only(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name, len(name) + ord(name[0]))
    lines = [
        '{"file_name": "a.png", "text": "one\u2028line"}',
        "9" * 5000,
        '{"file_name": "b.png", "text": "two"}',
    ]
    (tmp_path / "metadata.jsonl").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    found = scan(tmp_path)
    assert [s.caption.text for s in found.used] == ["one line", "two"]
    assert any("line 2 " in note for note in found.notes)


def test_a_caption_as_long_as_a_book_is_cut(tmp_path: Path) -> None:
    picture(tmp_path / "cat.png")
    (tmp_path / "cat.txt").write_text("word " * 100_000)
    (sample,) = scan(tmp_path).used
    assert len(sample.caption.text) <= 2000 and "2,000 characters" in " ".join(sample.notes)
