"""Whatever bytes a picture has: its settings, or one short message. Seeded, so a failure comes again."""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lorastyle.errors import PictureError
from lorastyle.generate import GenerateRequest, read_settings, save_picture
from lorastyle.generate.metadata.a1111 import write_parameters
from lorastyle.generate.metadata.own import write_own

from .pictures import SUFFIXES, chunk, exif, picture, png_of, random_request, with_exif

HOSTILE = (
    *(b"\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xd8", b"IEND", b"Exif\0\0", b"\x92\x86"),
    *(b"NaN", b"1e999", b"-1", b"true", b"null", b'"\\ud800"', b"[[[[", b"{}", b"../../", b"9" * 400),
    b"<lora:",
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, put in, left out, moved or cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(6)
        if kind == 0 and changed:
            changed[at % len(changed)] = rng.randrange(256)
        elif kind == 1:
            changed[at:at] = rng.choice(HOSTILE)
        elif kind == 2:
            word = rng.choice(HOSTILE)
            changed[at : at + len(word)] = word
        elif kind == 3:
            del changed[at : at + rng.randint(1, 40)]
        elif kind == 4:
            changed[at:at] = changed[rng.randrange(len(changed) + 1) :][: rng.randint(1, 200)]
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def outcome(data: bytes) -> str:
    """What became of it: "read" or "refused", within the rules."""
    try:
        request, remarks = read_settings(data)
    except PictureError as error:
        message = str(error)
        assert len(message) < 2000 and message.encode("utf-8")
        return "refused"
    assert isinstance(request, GenerateRequest) and request.number == 1
    assert GenerateRequest.from_dict(request.to_dict()) == request
    assert len(remarks) <= 21 and all(len(remark.encode("utf-8")) < 1000 for remark in remarks)
    for use in request.adapters:
        assert "/" not in use.name and "\\" not in use.name
    return "read"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    rng = random.Random(suffix)
    whole = [
        save_picture(picture(random_request(rng)), tmp_path / f"a{suffix}").read_bytes() for _ in range(8)
    ]
    assert {outcome(data) for data in whole} == {"read"}
    seen = Counter(outcome(mutated(rng.choice(whole), rng)) for _ in range(300))
    assert min(seen["read"], seen["refused"]) > 10


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("key", ["lorastyle", "parameters"])
def test_damaged_texts(tmp_path: Path, suffix: str, key: str) -> None:
    """The file is whole, so every one of the texts is parsed."""

    def wrap(text: bytes) -> bytes:
        if suffix == ".png":
            return png_of(chunk(b"iTXt", key.encode() + b"\0\0\0\0\0" + text))
        field = (0x927C, b"lorastyle\0" + text) if key == "lorastyle" else (0x9286, bytes(8) + text)
        return with_exif(exif({field[0]: (7, field[1])}), suffix, tmp_path / "x").read_bytes()

    rng = random.Random(f"{suffix} {key}")
    write: Callable[[GenerateRequest], str] = (
        write_own if key == "lorastyle" else lambda r: write_parameters(r, "1")
    )
    seen: Counter[str] = Counter()
    for _ in range(150):
        request = replace(random_request(rng), prompt="a cat", negative_prompt="a dog")
        seen[outcome(wrap(mutated(write(request).encode(), rng)))] += 1
    assert min(seen["read"], seen["refused"]) > 5


VALUES: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 10**9, 10**400, 0.5, -0.0, 1e308, "", "x", "7", "NaN", "\0"),
    *("\ud800", "~root", "/etc/passwd", "../../x", "a" * 20_000, [], [1], [[]], {}, {"name": "x"}),
    *([{"name": "~"}], [{"name": "x\0"}], [{"name": "x", "scale": True}], [{"name": "x", "hash": "../"}]),
    *([f"a{i}" for i in range(1000)], ["a:0.5", "b/c:1"], [{"name": "../x"}], [{"name": "\ud800"}]),
)
KEYS = (*GenerateRequest("a").to_dict(), "guidance", "init", "mask", "base", "seed", "extra")


@pytest.mark.parametrize("key", KEYS)
def test_every_key_with_every_value(key: str) -> None:
    for value in VALUES:
        for raw in (json.dumps(value), "1e999", "NaN", "-Infinity"):
            request = f'{{"prompt": "a", "init": "x.png", {json.dumps(key)}: {raw}}}'
            own = f'{{"version": 3, "request": {request}}}'
            outcome(png_of(chunk(b"iTXt", b"lorastyle\0\0\0\0\0" + own.encode())))


def test_reading_warns_of_nothing_but_what_it_tells() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert outcome(png_of(chunk(b"tEXt", b"parameters\0a\nSteps: 1, Seed: -5, CFG scale: 1e9"))) == "read"
