"""What the library folders hold, from headers that are read once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from lorastyle import library
from lorastyle.adapters import Adapter, Glance, glance, model_hash, read_info, save_adapter
from lorastyle.library import Headers, change_tags, home, list_adapters
from tests.adapters.examples import low_rank

from .conftest import Make


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers are read from now on."""
    read: list[str] = []

    def reading(path: str) -> Glance:
        read.append(Path(path).name)
        return glance(path)

    monkeypatch.setattr("lorastyle.library.headers.glance", reading)
    return read


def test_the_list_says_what_info_says(make: Make) -> None:
    path = make("cat", modelspec__tags="animal, cute")
    (entry,) = list_adapters()
    info = read_info(path)
    assert (entry.name, entry.path, entry.size) == ("cat", path, path.stat().st_size)
    assert entry.told == Glance(
        info.family, info.trigger or "", tuple(sorted(info.ranks)), model_hash(path), ("animal", "cute")
    )
    assert info.family == "sd1" and info.trigger == "zkx" and len(info.ranks) > 1


@pytest.mark.parametrize(
    ("base", "family"),
    [({"lorastyle__base": "sdxl"}, "sd1"), ({"lorastyle__base": "my-own"}, "my-own"), ({}, "sd1")],
)
def test_weights_outweigh_what_the_metadata_says(make: Make, base: dict[str, str], family: str) -> None:
    path = make("cat", **base)
    assert glance(path).family == read_info(path).family == family


def test_what_cannot_be_used_says_why(make: Make, home: Path) -> None:
    whole = make("whole").read_bytes()
    (home / "adapters" / "cut.safetensors").write_bytes(whole[:-10])
    (home / "adapters" / "longer.safetensors").write_bytes(whole + b"x")
    (home / "adapters" / "pickle.safetensors").write_bytes(b"\x80\x04" + bytes(100))
    header = json.dumps({"model.diffusion_model.a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    data = len(header).to_bytes(8, "little") + header.encode() + bytes(4)
    (home / "adapters" / "checkpoint.safetensors").write_bytes(data)
    (home / "adapters" / "link.safetensors").symlink_to(home / "nowhere")
    (home / "adapters" / "folder.safetensors").mkdir()
    problems = {entry.name: entry.told.problem for entry in list_adapters()}
    assert problems.pop("whole") == ""
    assert "cut short" in problems["cut"] and "follow the last tensor" in problems["longer"]
    assert "a pickle" in problems["pickle"] and "no adapter" in problems["checkpoint"]
    assert set(problems) == {"cut", "longer", "pickle", "checkpoint"}
    assert not any(str(home) in problem for problem in problems.values())


def test_an_earlier_folder_hides_a_later_one(make: Make, home: Path) -> None:
    far, near = make("cat"), make("cat", seed=1, folder=Path("adapters"))
    make("ant")
    entries = list_adapters()
    assert [(e.name, e.hidden) for e in entries] == [("ant", False), ("cat", False), ("cat", True)]
    assert [e.path for e in entries[1:]] == [near.absolute(), far]
    assert library.find_adapter("cat") == near


def test_a_header_is_read_once_and_again_when_it_changed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make("cat")
    make("dog")
    read = counted(monkeypatch)
    first = list_adapters()
    assert sorted(read) == ["cat.safetensors", "dog.safetensors"]
    assert list_adapters() == first and len(read) == 2
    make("dog", seed=1)
    assert list_adapters()[1].told.hash != first[1].told.hash
    assert read[2:] == ["dog.safetensors"]
    os.utime(first[0].path, ns=(0, 0))
    list_adapters()
    assert read[3:] == ["cat.safetensors"]


def test_files_that_are_gone_are_forgotten(make: Make, home: Path) -> None:
    gone = make("cat")
    make("dog")
    elsewhere = make("far", folder=Path("other"))
    list_adapters([Path("other")])
    list_adapters()
    gone.unlink()
    make("owl")
    list_adapters()
    kept = json.loads((home / "headers.json").read_text())["files"]
    assert {Path(path).stem for path in kept} == {"dog", "owl", "far"}
    assert str(elsewhere.absolute()) in kept


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"version": 0}', b'{"version": 1, "files": {"a": 3}}', b"\xff" * 9]
)
def test_a_damaged_store_is_made_anew(make: Make, home: Path, damage: bytes) -> None:
    make("cat")
    before = list_adapters()
    (home / "headers.json").write_bytes(damage)
    assert list_adapters() == before
    assert json.loads((home / "headers.json").read_text())["version"] == 1


def test_a_home_that_cannot_be_written_is_no_obstacle(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make("cat", folder=Path("adapters"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path / "file"))
    assert [entry.name for entry in list_adapters()] == ["cat"]


LIST_MANY = """
import sys
from pathlib import Path
from lorastyle.library import Headers
store, folder = map(Path, sys.argv[1:])
for _ in range(20):
    Headers(store).of([(str(f), f.stat()) for f in sorted(folder.iterdir())])
    store.unlink(missing_ok=True)
"""


def test_two_processes_share_a_store(make: Make, home: Path) -> None:
    """Whoever reads it at any time finds a whole one, or none."""
    for name in "abc":
        make(name)
        make(name, folder=home / "more")
    store = home / "shared.json"
    folders = (home / "adapters", home / "more")
    workers = [
        subprocess.Popen([sys.executable, "-c", LIST_MANY, store, folder], stderr=subprocess.PIPE)
        for folder in folders
    ]
    while any(worker.poll() is None for worker in workers):
        with contextlib.suppress(FileNotFoundError):
            assert json.loads(store.read_bytes())["version"] == 1
    for worker in workers:
        assert worker.communicate()[1] == b"" and worker.returncode == 0
    for folder in (home / "adapters", home / "more"):
        found = Headers(store).of([(str(f), f.stat()) for f in sorted(folder.iterdir())])
        assert [told.family for told in found.values()] == ["sd1"] * 3


def test_tags_are_the_users_and_the_files(make: Make, home: Path) -> None:
    make("cat", modelspec__tags="animal")
    assert change_tags("cat", ["cute", "animal"]) == ("cute", "animal")
    assert list_adapters()[0].tags == ("cute", "animal")
    assert change_tags("cat", remove=["cute"]) == ("animal",)
    (home / "tags.json").write_text("[")
    with pytest.warns(UserWarning, match=r"tags\.json cannot be read"):
        assert list_adapters()[0].tags == ("animal",)


def test_tags_move_with_the_home(make: Make, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("cat")
    make("dog", folder=Path("adapters"))
    change_tags("cat", ["cute"])
    change_tags("dog", ["loud"])
    moved = home.rename(home.with_name("moved"))
    monkeypatch.setenv("LORASTYLE_HOME", str(moved))
    assert {entry.name: entry.tags for entry in list_adapters()} == {"cat": ("cute",), "dog": ("loud",)}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_a_name_that_is_no_text(make: Make, home: Path) -> None:
    odd = make("cat").rename(home / "adapters" / os.fsdecode(b"caf\xe9.safetensors"))
    change_tags(str(odd), ["old"])
    (entry,) = list_adapters()
    assert entry.path == odd and entry.tags == ("old",)
    json.dumps(entry.as_dict()).encode()
    library.rename(entry.name, "cafe")
    assert [(entry.name, entry.tags) for entry in list_adapters()] == [("cafe", ("old",))]


def test_a_problem_is_looked_at_anew(make: Make) -> None:
    """Permissions change without a trace in size and time of change."""
    path = make("cat")
    whole, stamp = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(whole[:8] + b"x" + whole[9:])
    os.utime(path, ns=(stamp, stamp))
    assert list_adapters()[0].told.problem
    path.write_bytes(whole)
    os.utime(path, ns=(stamp, stamp))
    assert not list_adapters()[0].told.problem


def test_headers_that_other_programs_write(make: Make) -> None:
    """Spaces, another order of keys, metadata at the end, or none: told the same."""
    path = make("cat", modelspec__tags="animal")
    told, data = glance(path), path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    content = json.loads(data[8:end])
    metadata = {"__metadata__": content.pop("__metadata__")}
    turned = {key: dict(reversed(entry.items())) for key, entry in content.items()}

    def seen(content: object, **style: Any) -> Glance:
        header = json.dumps(content, **style).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])
        return glance(path)

    assert seen({**metadata, **content}) == told
    assert seen({**content, **metadata}, separators=(",", ":")) == told
    assert seen({**metadata, **turned}, separators=(",", ":")) == told
    assert seen(content, separators=(",", ":")) == Glance("sd1", ranks=told.ranks) != told
    metadata["__metadata__"]["lorastyle.trigger"] = "\ud800"
    assert "is not text in UTF-8" in seen({**metadata, **content}, separators=(",", ":")).problem


@pytest.mark.parametrize("format", ["kohya", "diffusers", "peft"])
@pytest.mark.parametrize(("width", "family"), [(768, "sd1"), (1024, "sd2"), (2048, "sdxl"), (96, None)])
def test_a_glance_tells_what_info_tells(
    tmp_path: Path, format: Literal["kohya", "diffusers", "peft"], width: int, family: str | None
) -> None:
    block = "down_blocks.2.attentions.0.transformer_blocks"
    wide = "9" if family == "sdxl" else "0"
    unet = {
        f"{block}.{wide}.attn2.to_k": low_rank((8, width), 2, 1.0),
        f"{block}.0.attn1.to_q": low_rank((8, 8), 3, 1.0),
        "mid_block.resnets.0.conv1": low_rank((8, 8, 3, 3), 5, 1.0),
    }
    save_adapter(Adapter("cat", {"unet": unet}, {}), tmp_path / "cat.safetensors", format=format)
    (file,) = tmp_path.rglob("*.safetensors") if format != "peft" else tmp_path.rglob("adapter_model*")
    info, told = read_info(file), glance(file)
    assert (told.family, told.ranks) == (info.family, tuple(sorted(info.ranks))) == (family, (2, 3, 5))


def test_where_home_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert home() == tmp_path / "home"
    monkeypatch.delenv("LORASTYLE_HOME")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert home() == tmp_path / ".local" / "share" / "lorastyle"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert home() == tmp_path / "xdg" / "lorastyle"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert home() == tmp_path / ".local" / "share" / "lorastyle"
