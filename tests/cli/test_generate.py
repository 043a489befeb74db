"""`lorastyle generate`, on a tiny base."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from lorastyle.cli.console import Steps
from lorastyle.errors import PictureError
from lorastyle.generate import Engine, GenerateRequest, Picture, PreviewFile, read_request, save_picture

from .conftest import Said, write_adapter

Run = Callable[..., Said]
QUICK = ("--steps", 2, "--seed", 7)


def test_stacked_adapters_draw_numbered_pictures(lorastyle: Run, tiny_base: str, adapter: Path) -> None:
    write_adapter(Path("other.safetensors"), seed=1)
    said = lorastyle("generate", "A cat!", "-a", "dots:0.8", "-a", "other.safetensors:0.5", "-n", 2, *QUICK)
    assert (said.code, said.err) == (0, "")
    files = [Path("pictures/a-cat-7.png"), Path("pictures/a-cat-8.png")]
    assert [line for line in said.out.splitlines() if not line.startswith("drawing")] == [
        f"base: {tiny_base}",
        *(str(f) for f in files),
    ]
    requests = [read_request(file) for file in files]
    assert [request.seed for request in requests] == [7, 8]
    assert [(use.name, use.scale) for use in requests[0].adapters] == [
        ("dots", 0.8),
        ("other", 0.5),
    ]


def test_an_adapter_changes_the_picture_and_scale_0_does_not(
    lorastyle: Run, tiny_base: str, adapter: Path
) -> None:
    for name, more in {"plain": (), "off": ("-a", "dots:0"), "on": ("-a", "dots:1")}.items():
        assert lorastyle("generate", "a cat", *QUICK, *more, "--out", f"{name}.png").code == 0
    plain, off, on = (Image.open(f"{name}.png").convert("RGB") for name in ("plain", "off", "on"))
    assert ImageChops.difference(plain, off).getbbox() is None
    assert ImageChops.difference(plain, on).getbbox() is not None


def test_settings_reach_the_picture(lorastyle: Run, tiny_base: str) -> None:
    more = ("--size", "64x32", "--guidance", 2, "--scheduler", "euler", "--negative", "dark", "-o", "x.png")
    assert lorastyle("generate", "a cat", *QUICK, *more).code == 0
    request = read_request("x.png")
    assert (request.width, request.height, request.guidance, request.scheduler, request.negative_prompt) == (
        64,
        32,
        2.0,
        "euler",
        "dark",
    )
    with Image.open("x.png") as picture:
        assert picture.size == (64, 32)


def test_an_adapter_that_is_not_there(lorastyle: Run, tiny_base: str, adapter: Path) -> None:
    said = lorastyle("generate", "a cat", "-a", "dats", *QUICK)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith('error: There is no adapter "dats"') and 'Did you mean "dots"?' in said.err


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--size", "13"), "width is 13; a multiple of 8"),
        (("--scheduler", "eular"), 'Did you mean "euler"?'),
        (("-a", "dots:nan"), "the scale of 'dots' is 'nan'"),
        (("-a", ""), "the name is ''"),
        (("-n", 2, "--out", "one.png"), "--out one.png names one picture, but --number is 2"),
        (("--base", "no-such-base"), 'There is no base "no-such-base"'),
    ],
)
def test_what_cannot_be_drawn_is_said_before_anything_is(
    lorastyle: Run, more: tuple[object, ...], complaint: str
) -> None:
    said = lorastyle("generate", "a cat", *more)
    assert (said.code, said.out) == (1, "")
    assert complaint in said.err
    assert not Path("pictures").exists()


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("taken", "it is a file"),
        ("taken/deeper", "taken"),
        ("cat.gif", "Name it cat.png"),
    ],
)
def test_where_pictures_cannot_go_is_said_before_anything_is_drawn(
    lorastyle: Run, tiny_base: str, out: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("taken").write_text("a file")
    monkeypatch.setenv("LORASTYLE_BASE", "no base at all")
    said = lorastyle("generate", "a cat", *QUICK, "--out", out)
    assert said.code == 1 and told in said.err and "no base at all" not in said.err


@pytest.mark.parametrize("flag", ["--steps", "--seed", "-n"])
@pytest.mark.parametrize("value", ["2.5", "1e3", "nan", ""])
def test_a_part_of_a_number_is_not_rounded_away(lorastyle: Run, flag: str, value: str) -> None:
    said = lorastyle("generate", "a cat", flag, value)
    assert said.code == 2 and flag.lstrip("-")[:1] in said.err


def test_a_negative_seed_is_told(lorastyle: Run) -> None:
    said = lorastyle("generate", "a cat", "--seed", -1)
    assert said.code == 1 and "seed is -1" in said.err


@pytest.mark.parametrize("name", ["x.jpg", "x.JPEG", "x.webp", "x.png"])
def test_one_picture_in_any_format(lorastyle: Run, tiny_base: str, adapter: Path, name: str) -> None:
    assert lorastyle("generate", "a cat", "-a", "dots:0.5", *QUICK, "-o", name).code == 0
    with Image.open(name) as picture:
        assert picture.format == {"jpg": "JPEG", "jpeg": "JPEG"}.get(name[2:].lower(), name[2:].upper())
    request = read_request(name)
    assert (request.prompt, request.seed, request.base) == ("a cat", 7, "tiny")
    assert [(use.name, use.scale) for use in request.adapters] == [("dots", 0.5)]


def test_many_in_another_format_and_without_metadata(lorastyle: Run, tiny_base: str) -> None:
    more = ("-n", 2, "--format", "webp", "--quality", 50, "--no-metadata")
    assert lorastyle("generate", "a cat", *QUICK, *more).code == 0
    assert sorted(file.name for file in Path("pictures").iterdir()) == ["a-cat-7.webp", "a-cat-8.webp"]
    with pytest.raises(PictureError, match="no request in this picture"):
        read_request("pictures/a-cat-7.webp")


def test_a_quality_that_cannot_be_is_said_first(lorastyle: Run) -> None:
    for more in (("--quality", 50), ("-o", "x.webp", "--quality", 101)):
        said = lorastyle("generate", "a cat", *more)
        assert said.code == 1 and said.err.startswith("error: quality is")


def test_like_a_picture_draws_the_same_again(lorastyle: Run, tiny_base: str, adapter: Path) -> None:
    """Under another name of the adapter, from a picture that names no path; flags change what they say."""
    first = ("-a", "dots:0.8", "--size", "32x48", "--guidance", 2, "--scheduler", "euler", "--negative", "x")
    assert lorastyle("generate", "a cat", *QUICK, *first, "-o", "first.png").code == 0
    adapter.rename(adapter.with_name("spots.safetensors"))
    said = lorastyle("generate", "--like", "first.png", "-o", "again.png")
    assert (said.code, said.err) == (0, "note: The adapter 'dots' is called 'spots' here.\n")
    assert lorastyle("generate", "--like", "first.png", "--seed", 8, "-o", "other.png").code == 0
    first_picture, again, other = (
        Image.open(f"{name}.png").convert("RGB") for name in ("first", "again", "other")
    )
    assert ImageChops.difference(first_picture, again).getbbox() is None
    assert ImageChops.difference(first_picture, other).getbbox() is not None
    assert lorastyle("generate", "a dog", "--like", "first.png", "--steps", 3, "-o", "dog.png").code == 0
    dog, cat = read_request("dog.png"), read_request("again.png")
    assert (dog.prompt, dog.steps) == ("a dog", 3)
    assert (dog.negative_prompt, dog.seed, dog.width, dog.height) == ("x", 7, 32, 48)
    assert dog.adapters == cat.adapters


def test_like_a_picture_whose_adapter_is_missing(lorastyle: Run, tiny_base: str, adapter: Path) -> None:
    assert lorastyle("generate", "a cat", "-a", "dots", *QUICK, "-o", "first.png").code == 0
    adapter.unlink()
    said = lorastyle("generate", "--like", "first.png", "-o", "again.png")
    assert said.code == 1 and not Path("again.png").exists()
    assert 'There is no adapter "dots" (weights ' in said.err and "--skip-missing" in said.err
    said = lorastyle("generate", "--like", "first.png", "--skip-missing", "-o", "again.png")
    assert said.code == 0 and "not in the library: left out." in said.err
    assert read_request("again.png").adapters == ()


def test_neither_words_nor_a_picture(lorastyle: Run) -> None:
    said = lorastyle("generate")
    assert said.code == 1 and said.err.startswith("error: Say what to draw")
    said = lorastyle("generate", "--like", "nothing.png")
    assert (said.code, said.err) == (1, "error: nothing.png: no such file.\n")


def test_the_base_is_kept_as_asked(lorastyle: Run, tiny_base: str) -> None:
    for mode in ("auto", "offload", "int8"):
        said = lorastyle("generate", "a cat", *QUICK, "--memory", mode, "--out", f"{mode}.png")
        assert (said.code, said.err) == (0, "")
    auto, offload, int8 = (Image.open(f"{m}.png").convert("RGB") for m in ("auto", "offload", "int8"))
    assert ImageChops.difference(auto, offload).getbbox() is None
    assert ImageChops.difference(auto, int8).getbbox() is not None
    said = lorastyle("generate", "a cat", "--memory", "lots")
    assert said.code == 2 and "offload" in said.out + said.err


def test_what_was_chosen_for_a_small_card_is_told(
    lorastyle: Run, tiny_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorastyle.bases import Choice

    def choose(base: object, request: object) -> Choice:
        return Choice("int8", 2, 5, 6, "int8, about all of it")

    monkeypatch.setattr("lorastyle.generate.choose_memory", choose, raising=False)
    said = lorastyle("generate", "a cat", *QUICK, "-n", 2)
    assert said.code == 0 and "memory: int8, about all of it" in said.out.splitlines()


def test_a_picture_starts_no_download(
    lorastyle: Run, tiny_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    fetched: list[str] = []

    def fetch(repo: str, revision: str | None, name: str) -> Path:
        fetched.append(name)
        return Path(tiny_base)

    monkeypatch.setattr("lorastyle.bases.load.fetch", fetch)
    asked = GenerateRequest("a cat", base="org/model", steps=2, seed=7)
    save_picture(Picture(Image.new("RGB", (64, 64)), asked), "other.png")
    said = lorastyle("generate", "--like", "other.png", "-o", "again.png")
    assert said.code == 1 and not fetched and not Path("again.png").exists()
    assert '"org/model", which is not in the local cache' in said.err and "add --base org/model" in said.err
    assert lorastyle("generate", "--like", "other.png", "--skip-missing", "-o", "a.png").code == 0
    assert not fetched and read_request("a.png").base == "tiny"
    # what the error proposes does fetch it
    assert lorastyle("generate", "--like", "other.png", "--base", "org/model", "-o", "b.png").code == 0
    assert fetched == ["org/model"]
    # and so does a base that is one's own choice, whatever pictures say
    monkeypatch.setenv("LORASTYLE_BASE", "org/model")
    assert lorastyle("generate", "--like", "other.png", "-o", "c.png").code == 0


def test_memory_of_the_file_of_settings(lorastyle: Run, tiny_base: str) -> None:
    assert lorastyle("generate", "a cat", *QUICK, "--out", "plain.png").code == 0
    assert lorastyle("generate", "a cat", *QUICK, "--memory", "int8", "--out", "int8.png").code == 0
    Path("lorastyle.toml").write_text('memory = "int8"')
    assert lorastyle("generate", "a cat", *QUICK, "--out", "file.png").code == 0
    assert lorastyle("generate", "a cat", *QUICK, "--memory", "fast", "--out", "flag.png").code == 0
    plain, int8, file, flag = (pixels(f"{name}.png") for name in ("plain", "int8", "file", "flag"))
    assert file == int8 and flag == plain and plain != int8


def pixels(path: str | Path) -> bytes:
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


def test_a_preview_is_written_while_it_is_drawn(
    lorastyle: Run, tiny_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorastyle.generate import preview

    monkeypatch.setattr(preview, "EVERY", 0.0)
    monkeypatch.setattr(preview, "SHARE", 0)
    seen: list[bytes] = []
    write = PreviewFile.__call__

    def watch(self: PreviewFile, pictures: list[Image.Image]) -> None:
        write(self, pictures)
        seen.append(pixels("shown/now.webp"))
        assert not Path("pictures").exists(), "a preview comes before the picture"

    monkeypatch.setattr(PreviewFile, "__call__", watch)
    assert lorastyle("generate", "a cat", *QUICK, "-n", 2, "--preview", "shown/now.webp").code == 0
    assert len(seen) == 2 and seen[0] != seen[1]
    with Image.open("shown/now.webp") as picture:
        assert picture.size == (128, 64)  # both of the batch, side by side
    assert [file.name for file in Path("shown").iterdir()] == ["now.webp"]
    assert lorastyle("generate", "a cat", *QUICK, "-n", 2, "-o", "plain").code == 0
    assert pixels("plain/a-cat-7.png") == pixels("pictures/a-cat-7.png")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--preview", "now.gif"), "name a picture, such as preview.png"),
        (("--preview", "a-folder"), "name a picture, such as preview.png"),
        (("--preview", "photo.png", "--init", "./photo.png"), "would replace ./photo.png"),
        (("--preview", "x.png", "-o", "x.png"), "would replace x.png"),
        (("--preview", "taken/x.png"), "it is a file"),
    ],
)
def test_a_preview_that_cannot_be(lorastyle: Run, more: tuple[str, ...], told: str) -> None:
    Path("taken").write_text("a file")
    said = lorastyle("generate", "a cat", *more)
    assert said.code == 1 and told in said.err


@pytest.mark.filterwarnings("default:The preview")
def test_a_preview_that_cannot_be_written_stops_no_drawing(
    lorastyle: Run, tiny_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lorastyle.generate.preview_file.atomic_write", full)
    monkeypatch.setattr("lorastyle.generate.preview.EVERY", 0.0)
    said = lorastyle("generate", "a cat", "--steps", 4, "--preview", "now.png", "-o", "x.png")
    assert said.code == 0 and Path("x.png").exists()
    assert said.err.count("note:") == 1 and "No space left on device); drawing goes on" in said.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_after_the_step_and_keeps_what_is_finished(
    number: signal.Signals, lorastyle: Run, tiny_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorastyle.generate.Engine", partial(Engine, batch_size=1), raising=False)
    before, steps = signal.getsignal(number), list[int]()
    update = Steps.update

    def interrupt(self: Steps, what: str, done: int, total: int, detail: str = "") -> None:
        update(self, what, done, total, detail)
        steps.append(done)
        if done == 3:  # the first of the second picture
            signal.raise_signal(number)

    monkeypatch.setattr(Steps, "update", interrupt)
    said = lorastyle("generate", "a cat", *QUICK, "-n", 3, "--memory", "fast")
    assert (said.code, said.err) == (130, "error: stopped: 1 of 3 pictures are drawn and kept\n")
    assert steps == [1, 2, 3] and [file.name for file in Path("pictures").iterdir()] == ["a-cat-7.png"]
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait(
    lorastyle: Run, tiny_base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = list[bool]()

    def slow(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)
        ended.append(False)
        signal.raise_signal(signal.SIGINT)
        ended.append(True)

    monkeypatch.setattr("lorastyle.generate.drawing.denoise", slow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
    try:
        said = lorastyle("generate", "a cat", *QUICK)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (said.code, said.err, ended) == (130, "error: stopped\n", [False])
