"""Adding, renaming, removing and putting back."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from lorastyle import library
from lorastyle.adapters import model_hash, move_new, save_adapter
from lorastyle.errors import AdapterError, AdapterFileError, ConfigError
from lorastyle.library import change_tags, find_adapter, list_adapters, list_removed, read_tags
from lorastyle.train import RunFolder
from tests.adapters.examples import mixed_adapter

from .conftest import Make


def names() -> list[str]:
    return [entry.name for entry in list_adapters()]


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_add_copies_and_leaves_the_original(make: Make, home: Path) -> None:
    path = make("cat", folder=Path("downloads"))
    path.with_name("cat.preview.png").write_text("picture")
    added = library.add(path)
    assert added == home / "adapters" / "cat.safetensors" == find_adapter("cat")
    assert added.read_bytes() == path.read_bytes()
    shouted = make("dog", seed=1, folder=Path("more")).rename(Path("more/DOG.SAFETENSORS"))
    assert library.add(shouted).name == "DOG.safetensors"
    library.add(make("cat", seed=2, folder=Path("more")), name="tom")
    assert files(added.parent) == ["DOG.safetensors", "cat.preview.png", "cat.safetensors", "tom.safetensors"]
    assert files(Path("downloads")) == ["cat.preview.png", "cat.safetensors"]


def test_add_never_replaces(make: Make, home: Path) -> None:
    path = make("cat")
    held = model_hash(path)
    with pytest.raises(AdapterError, match=r'is an adapter "cat" already: .*another --name'):
        library.add(make("cat", seed=1, folder=Path("other")))
    with pytest.raises(AdapterError, match=r'is an adapter "CAT" already: .*cat.safetensors'):
        library.add(make("CAT", seed=1, folder=Path("other")))
    with pytest.raises(AdapterError, match="in the library already"):
        library.add(make("cat", folder=Path("same")))
    (home / "adapters" / "dog.json").write_text("left behind")
    with pytest.raises(AdapterError, match=r'dog\.json would be taken for a file of "dog"'):
        library.add(make("dog", folder=Path("other")))
    (home / "adapters" / "owl.safetensors").symlink_to(home / "elsewhere")  # to nowhere
    with pytest.raises(AdapterError, match="There is an adapter"):
        library.add(make("owl", folder=Path("other")))
    assert model_hash(path) == held and not (home / "elsewhere").exists()


def test_a_peft_folder_is_pointed_to_convert() -> None:
    save_adapter(mixed_adapter("cat"), Path("cat"), format="peft")
    with pytest.raises(AdapterError, match=r"lorastyle convert cat cat\.safetensors"):
        library.add(Path("cat"))


def test_what_is_no_adapter_is_not_added(home: Path) -> None:
    pickle = Path("evil.safetensors")
    pickle.write_bytes(b"\x80\x04" + bytes(100))
    with pytest.raises(AdapterFileError, match="can run code"):
        library.add(pickle)
    assert not (home / "adapters").exists()


BAD = (
    "",
    " ",
    "..",
    "../cat",
    "a/b",
    "a\\b",
    "c:0.5",
    ".hidden",
    "a\x1b",
    "x" * 300,
    "é" * 120,
    "-x",
    "~x",
    "x.",
)


@pytest.mark.parametrize("name", [*BAD, "x" * 300, "é" * 120, "nul", "Con.v2", "COM1", "\ud800"])
def test_names_that_no_adapter_should_have(make: Make, name: str) -> None:
    path = make("cat")
    with pytest.raises(ConfigError, match="no name for an adapter"):
        library.rename("cat", name)
    with pytest.raises(ConfigError, match="no name for an adapter"):
        library.add(make("dog", seed=1, folder=Path("other")), name=name)
    assert names() == ["cat"] and files(path.parent) == ["cat.safetensors"]


@pytest.mark.parametrize("name", ["käse 2.5", "猫", "console", "x" * 200])
def test_names_that_one_may_have(make: Make, name: str) -> None:
    make("cat")
    assert library.rename("cat", f" {name} ") == find_adapter(name)


def test_rename_takes_along_what_belongs_to_it(make: Make) -> None:
    path = make("cat")
    for end in (".json", ".preview.png", ".metadata.json"):
        path.with_name(f"cat{end}").write_text(end)
    path.with_name("cats.json").write_text("another's")
    path.with_name("cat.sheet.png").write_text("")
    change_tags("cat", ["cute"])
    renamed = library.rename("cat", "tom.safetensors")
    assert sorted(f.name for f in renamed.parent.iterdir()) == [
        "cats.json",
        "tom.json",
        "tom.metadata.json",
        "tom.preview.png",
        "tom.safetensors",
        "tom.sheet.png",
    ]
    assert read_tags() == {renamed: ("cute",)}
    assert find_adapter("tom") == renamed
    with pytest.raises(AdapterError, match='There is no adapter "cat"'):
        library.rename("cat", "x")


def test_rename_never_replaces(make: Make, home: Path) -> None:
    path, other = make("cat"), make("dog", seed=1)
    make("owl", folder=Path("adapters"))
    path.with_suffix(".json").write_text("cat's")
    other.with_name("tom.json").write_text("left behind")
    before = files(path.parent)
    for new in ("dog", "Dog", "owl"):
        with pytest.raises(AdapterError, match=f'There is an adapter "{new}" already'):
            library.rename("cat", new)
    with pytest.raises(AdapterError, match=r"tom\.json would be taken"):
        library.rename("cat", "tom")
    assert files(path.parent) == before


def test_a_name_in_another_case(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where case does not count, the new name is taken by the file itself."""

    def as_there(source: Path, target: Path) -> None:
        assert source.name.lower() != target.name.lower()
        move_new(source, target)

    monkeypatch.setattr("lorastyle.library.beside.move_new", as_there)
    path = make("cat")
    path.with_suffix(".json").write_text("notes")
    library.rename("cat", "Cat")
    assert files(path.parent) == ["Cat.json", "Cat.safetensors"]
    with pytest.raises(AdapterError, match='There is an adapter "CAT" already'):
        library.rename(make("dog", seed=1).stem, "CAT")


def test_accents_have_two_spellings(make: Make) -> None:
    path = make(unicodedata.normalize("NFD", "käse"))
    make("cat", seed=1)
    with pytest.raises(AdapterError, match='There is an adapter "käse" already'):
        library.rename("cat", "käse")
    assert library.rename(path.stem, "käse").name == unicodedata.normalize("NFC", "käse.safetensors")


def test_files_belong_to_the_adapter_with_the_longest_name(make: Make) -> None:
    path = make("cat")
    make("cat.preview", seed=1)
    for name in ("cat.preview.png", "cat.png", "cat.metadata.json"):
        path.with_name(name).write_text(name)
    library.rename("cat", "tom")
    assert files(path.parent) == [
        *("cat.preview.png", "cat.preview.safetensors"),
        *("tom.metadata.json", "tom.png", "tom.safetensors"),
    ]
    library.rename("cat.preview", "x.y")
    assert {"x.y.png", "x.y.safetensors"} <= set(files(path.parent))


def test_what_cannot_move_whole_does_not_move(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        if target.suffix == ".json":
            raise OSError(28, "No space left on device")
        move_new(source, target)

    path = make("cat")
    path.with_suffix(".toml").write_text("settings")
    path.with_suffix(".json").write_text("notes")
    change_tags("cat", ["cute"])
    before = files(path.parent)
    monkeypatch.setattr("lorastyle.library.beside.move_new", full)
    with pytest.raises(AdapterError, match=r"cannot be renamed \(No space left"):
        library.rename("cat", "tom")
    with pytest.raises(AdapterError, match=r"cannot be moved to the trash \(No space left"):
        library.remove("cat")
    assert files(path.parent) == before and read_tags() == {path: ("cute",)}


def test_damaged_tags_stop_a_change_before_it_begins(make: Make, home: Path) -> None:
    path = make("cat")
    (home / "tags.json").write_text("[")
    for change in (lambda: library.rename("cat", "tom"), lambda: library.remove("cat")):
        with pytest.raises(AdapterError, match=r"tags\.json cannot be read"):
            change()
    assert files(path.parent) == ["cat.safetensors"]


def test_what_is_being_trained_stays(make: Make) -> None:
    run = RunFolder(make("cat"))
    with run.claimed():
        for change in (lambda: library.rename("cat", "tom"), lambda: library.remove("cat")):
            with pytest.raises(AdapterError, match="is being trained"):
                change()
    library.rename("cat", "tom")


def test_what_lies_elsewhere_stays_there(make: Make) -> None:
    path = make("cat", folder=Path("downloads"))
    with pytest.raises(AdapterError, match="no adapter file in the library"):
        library.remove(str(path))
    with pytest.raises(AdapterError, match="no adapter file in the library"):
        library.rename(str(path), "x")
    assert path.exists()


def test_a_name_means_what_is_in_the_library(make: Make, home: Path) -> None:
    path = make("cat")
    Path("cat").write_text("notes")
    assert find_adapter("cat") == path
    make("cat", seed=1, folder=Path())
    assert find_adapter("cat") == path and find_adapter("cat.safetensors") == Path("cat.safetensors")
    with pytest.raises(AdapterError, match="no adapter file in the library"):
        library.remove("./cat.safetensors")
    library.remove("cat.safetensors")
    assert Path("cat.safetensors").exists() and not path.exists()
    for name in ("..", ".", "", "a\0b", "../../etc/passwd", str(home / "adapters"), "x" * 5000):
        with pytest.raises(AdapterError):
            library.remove(name)


def test_the_real_path_of_a_library_behind_a_link(make: Make, tmp_path: Path, home: Path) -> None:
    home.mkdir()
    (tmp_path / "disk").mkdir()
    (home / "adapters").symlink_to(tmp_path / "disk")
    path = make("cat")
    Path("adapters").symlink_to(tmp_path / "disk")
    assert names() == ["cat"], "one folder, however many links lead to it"
    library.remove(str(tmp_path / "disk" / path.name))
    assert library.restore("cat").samefile(tmp_path / "disk" / path.name)


def test_links_are_moved_and_not_what_they_lead_to(make: Make, home: Path) -> None:
    real = make("real", folder=home / "disk")
    (home / "adapters").mkdir()
    for name, target in (("cat", "../disk/real.safetensors"), ("lost", "../disk/nowhere")):
        link = home / "adapters" / f"{name}.safetensors"
        link.symlink_to(target)
        library.remove(name)
        assert not link.is_symlink() and [item.name for item in list_removed()] == [name]
        assert library.restore(name) == link and os.readlink(link) == target
    assert names() == ["cat"] and find_adapter("cat").samefile(real)
    assert library.rename("cat", "tom").is_symlink() and files(real.parent) == ["real.safetensors"]


def test_removed_and_put_back(make: Make) -> None:
    path = make("cat")
    data = path.read_bytes()
    path.with_suffix(".json").write_text("notes")
    change_tags("cat", ["cute"])
    removed = library.remove("cat")
    assert names() == [] and removed.path.read_bytes() == data and not path.with_suffix(".json").exists()
    assert [(item.name, item.folder, item.size) for item in list_removed()] == [
        ("cat", path.parent, len(data))
    ]
    assert library.restore("cat") == path
    assert path.read_bytes() == data and path.with_suffix(".json").read_text() == "notes"
    assert list_adapters()[0].tags == ("cute",) and list_removed() == []
    assert not (path.parent / ".trash").exists()


def test_the_newest_of_a_name_comes_back_first(make: Make) -> None:
    held: list[str] = []
    for seed in (0, 1):
        held.append(model_hash(make("cat", seed=seed)))
        place = library.remove("cat").path.parent
        os.utime(place, (1000 + seed, 1000 + seed))
    assert model_hash(library.restore("cat")) == held[1]
    with pytest.raises(AdapterError, match=r'cannot be put back\. There is an adapter "cat"'):
        library.restore("cat")
    library.rename("cat", "new")
    assert model_hash(library.restore("cat")) == held[0]


def test_what_the_trash_does_not_hold(make: Make) -> None:
    with pytest.raises(AdapterError, match="It is empty"):
        library.restore("cat")
    make("cat")
    library.remove("cat")
    with pytest.raises(AdapterError, match=r'holds cat\. Did you mean "cat"'):
        library.restore("cot")


@pytest.mark.parametrize("tag", ["", "a,b", "x" * 61, "a\nb"])
def test_what_is_no_tag(make: Make, tag: str) -> None:
    make("cat")
    with pytest.raises(ConfigError, match="is no tag"):
        change_tags("cat", [tag])
    assert read_tags() == {}


CHANGE_MANY = """
import sys
from lorastyle.errors import AdapterError
from lorastyle.library import add, change_tags, remove, rename, restore
me, other = sys.argv[1:]
for i in range(15):
    for change in (
        lambda: rename("shared", f"{me}-{i}"),
        lambda: rename(f"{me}-{i}", "shared"),
        lambda: rename(f"{other}-{i}", "shared"),
        lambda: (remove("shared"), restore("shared")),
        lambda: add(f"{me}.safetensors", name="added"),
    ):
        try:
            change()
        except AdapterError:
            pass
    change_tags(me, [f"{me}{i}"])
"""


def test_two_processes_change_at_once(make: Make) -> None:
    """Nothing is lost or overwritten, and each adapter keeps what is beside it."""
    kept = make("shared", seed=3).read_bytes()
    find_adapter("shared").with_suffix(".json").write_text("shared's")
    own = {name: make(name, seed=seed, folder=Path()).read_bytes() for seed, name in enumerate("ab")}
    for seed, name in enumerate("ab"):
        make(name, seed=seed + 5)
    workers = [
        subprocess.Popen([sys.executable, "-c", CHANGE_MANY, *pair], stderr=subprocess.PIPE)
        for pair in ("ab", "ba")
    ]
    for worker in workers:
        assert worker.communicate()[1] == b"" and worker.returncode == 0
    assert find_adapter("added").read_bytes() in own.values()
    (last,) = set(names()) - {"added", "a", "b"}
    assert find_adapter(last).read_bytes() == kept
    assert find_adapter(last).with_suffix(".json").read_text() == "shared's"
    assert files(find_adapter(last).parent) == sorted(
        ["a.safetensors", "b.safetensors", "added.safetensors", f"{last}.json", f"{last}.safetensors"]
    )
    assert {path.stem: len(tags) for path, tags in read_tags().items()} == {"a": 15, "b": 15}
