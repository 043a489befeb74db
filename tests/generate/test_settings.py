"""What of a picture's settings is at hand here: adapters by hash, the base, the picture it started from."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lorastyle.adapters import model_hash
from lorastyle.errors import ConfigError, PictureError
from lorastyle.generate import AdapterUse, Engine, GenerateRequest, read_settings, save_picture
from tests.tiny import tiny_pipeline

from .conftest import MakeAdapter
from .pictures import picture, png

LAST = "Steps: 5, CFG scale: 7, Seed: 3, RNG: CPU"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with an empty library."""
    folder = tmp_path / "work"
    (folder / "adapters").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LORASTYLE_BASE", raising=False)
    return folder


def saved(request: GenerateRequest, name: str = "a.webp") -> Path:
    return save_picture(picture(request), name)


def test_the_same_library_gives_the_same_request_and_nothing_to_say(
    here: Path, make_adapter: MakeAdapter
) -> None:
    shutil.copy(file := make_adapter("cat"), here / "adapters")
    request = GenerateRequest("a", adapters=(AdapterUse("cat", 0.5, model_hash(file)[:12]),), seed=1)
    assert read_settings(saved(request)) == (request, [])


def test_a_renamed_adapter_is_found_by_its_weights(here: Path, make_adapter: MakeAdapter) -> None:
    shutil.copy(make_adapter("cat", seed=1), here / "adapters" / "cat.safetensors")
    digest = model_hash(shutil.copy(make_adapter("tom", seed=2), here / "adapters" / "felis.safetensors"))[
        :12
    ]
    request = GenerateRequest("a", adapters=(AdapterUse("cat", 0.5, digest),))
    found, remarks = read_settings(saved(request))
    assert found.adapters == (AdapterUse("felis", 0.5, digest),)
    assert remarks == ["The adapter 'cat' is called 'felis' here."]
    parameters = f'a <lora:cat:0.5>\n{LAST}, Lora hashes: "cat: {digest}"'
    assert read_settings(png(here / "b.png", parameters=parameters))[0].adapters == found.adapters


def test_a_file_that_another_of_its_name_hides(here: Path, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    hidden = tmp_path / "home" / "adapters" / "cat.safetensors"
    hidden.parent.mkdir(parents=True)
    digest = model_hash(shutil.copy(make_adapter("cat", seed=1), hidden))[:12]
    shutil.copy(make_adapter("cat", seed=2), here / "adapters")
    found, _ = read_settings(saved(GenerateRequest("a", adapters=(AdapterUse("cat", 1, digest),))))
    assert found.adapters == (AdapterUse(str(hidden), 1, digest),)


def test_what_a_picture_of_a_renamed_adapter_draws_is_the_same(
    here: Path, engine: Engine, make_adapter: MakeAdapter
) -> None:
    """The whole way: drawn, saved, the file renamed, read, drawn again."""
    file = Path(shutil.move(make_adapter("cat"), here / "adapters"))
    [drawn] = engine.generate(
        GenerateRequest("a cat", adapters=(AdapterUse("cat", 0.7),), steps=2, width=32, height=32)
    )
    path = save_picture(drawn, "drawn.png")
    file.rename(file.with_name("felis.safetensors"))
    request, remarks = read_settings(path, base=engine.base.name)
    assert remarks == ["The adapter 'cat' is called 'felis' here."]
    [again] = engine.generate(request)
    assert again.image.tobytes() == drawn.image.tobytes()
    [other] = engine.generate(replace(request, adapters=()))
    assert other.image.tobytes() != drawn.image.tobytes()


def test_hashes_of_all_kinds(here: Path, make_adapter: MakeAdapter) -> None:
    file = Path(shutil.copy(make_adapter("cat"), here / "adapters" / "felis.safetensors"))
    weights, whole = model_hash(file), hashlib.sha256(file.read_bytes()).hexdigest()
    for digest in (weights[:8], weights[:12], weights, whole[:10], weights[:10]):
        path = png(here / "a.png", parameters=f'a <lora:x:1>\n{LAST}, Lora hashes: "x: {digest}"')
        assert read_settings(path)[0].adapters == (AdapterUse("felis", 1.0, weights[:12]),)
    for digest in (whole[:12], "0" * 10):
        path = png(here / "a.png", parameters=f'a <lora:x:1>\n{LAST}, Lora hashes: "x: {digest}"')
        assert read_settings(path)[0].adapters == ()


def test_a_file_without_a_stated_hash_is_read_and_one_with_a_wrong_one_checked(
    here: Path, make_adapter: MakeAdapter
) -> None:
    data = make_adapter("cat").read_bytes()
    digest = model_hash(make_adapter("cat"))
    (here / "adapters" / "plain.safetensors").write_bytes(
        data.replace(b'"sshs_model_hash"', b'"xxxx_model_hash"')
    )
    parameters = f'a <lora:x:1>\n{LAST}, Lora hashes: "x: {digest[:12]}"'
    assert read_settings(png(here / "a.png", parameters=parameters))[0].adapters[0].name == "plain"
    # another file that copied the hash: its weights are others, so it is not taken for the adapter
    other = make_adapter("dog", seed=9)
    (here / "adapters" / "plain.safetensors").write_bytes(
        other.read_bytes().replace(model_hash(other).encode(), digest.encode())
    )
    found, remarks = read_settings(here / "a.png")
    assert found.adapters == () and "not in the library" in remarks[0]


def test_other_weights_under_the_same_name_are_told(here: Path, make_adapter: MakeAdapter) -> None:
    file = shutil.copy(make_adapter("cat"), here / "adapters")
    found, remarks = read_settings(saved(GenerateRequest("a", adapters=(AdapterUse("cat", 1, "0" * 12),))))
    assert found.adapters == (AdapterUse("cat", 1, model_hash(file)[:12]),)
    assert "has other weights here" in remarks[0] and "0" * 12 in remarks[0]


def test_missing_adapters_are_named_and_left_out_or_kept(here: Path, make_adapter: MakeAdapter) -> None:
    shutil.copy(make_adapter("cat"), here / "adapters")
    (here / "adapters" / "broken.safetensors").write_bytes(b"no adapter")
    uses = (AdapterUse("cat"), AdapterUse("ink", 0.5, "0" * 12), AdapterUse("oil"))
    path = saved(GenerateRequest("a", adapters=uses))
    found, remarks = read_settings(path)
    assert found.adapters == uses[:1]
    assert remarks == [
        "The adapter 'ink' (weights 000000000000) is not in the library: left out.",
        "The adapter 'oil' is not in the library: left out.",
    ]
    assert read_settings(path, keep_missing=True)[0].adapters == uses
    mine = (AdapterUse("dog"),)
    assert read_settings(path, changes={"adapters": mine}) == (GenerateRequest("a", adapters=mine), [])


def test_two_names_of_one_file_are_used_once(here: Path, make_adapter: MakeAdapter) -> None:
    digest = model_hash(shutil.copy(make_adapter("cat"), here / "adapters"))[:12]
    path = saved(
        GenerateRequest("a", adapters=(AdapterUse("cat", 0.5, digest), AdapterUse("tom", 0.25, digest)))
    )
    assert read_settings(path)[0].adapters == (AdapterUse("cat", 0.75, digest),)


def test_the_base(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASTYLE_BASE", "/models/Dream_v8.safetensors")
    for base, expected in (
        ("embedded", "embedded"),
        ("D:\\sd\\Dream_v8.safetensors", "/models/Dream_v8.safetensors"),
        (None, None),
    ):
        assert read_settings(saved(GenerateRequest("a", base=base))) == (
            GenerateRequest("a", base=expected),
            [],
        )
    found, remarks = read_settings(saved(GenerateRequest("a", base="/x/other.safetensors")))
    assert found.base is None and remarks == [
        "It was drawn with the base 'other.safetensors', which is not at hand: name it with base, or "
        "'Dream_v8.safetensors' draws."
    ]
    assert read_settings(saved(GenerateRequest("a", base="/x/other")), changes={"base": "mine"})[1] == []


@pytest.mark.parametrize("base", ["org/model", "org/model@fp16", "org/model@refs/pr/3"])
def test_a_base_of_the_hub_is_taken_from_the_cache_and_never_fetched(
    here: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "cache"))
    path = saved(GenerateRequest("a", base=base))
    found, [remark] = read_settings(path)
    assert found.base is None
    assert remark == f"It was drawn with the base '{base}', which is not in the local cache: left out."
    found, [remark] = read_settings(path, keep_missing=True)
    assert found.base == base and remark.endswith("not in the local cache: name it with base to fetch it.")
    # whole in the cache it is at hand; a part of it is not
    folder = here / "cache" / "models--org--model" / "snapshots" / ("c" * 40)
    tiny_pipeline().save_pretrained(folder)
    refs = folder.parents[1] / "refs" / (base.partition("@")[2] or "main")
    refs.parent.mkdir(parents=True)
    refs.write_text("c" * 40)
    assert read_settings(path) == (GenerateRequest("a", base=base), [])
    shutil.rmtree(folder / "vae")
    assert read_settings(path)[0].base is None


def test_a_revision_leads_nowhere_else(here: Path) -> None:
    found, [remark] = read_settings(saved(GenerateRequest("a", base="org/model@../../../secret")))
    assert found.base is None and "'secret', which is not at hand" in remark


def test_a_base_that_is_loaded_already(here: Path) -> None:
    path = saved(GenerateRequest("a", base="org/model"))
    assert read_settings(path, base="org/model") == (GenerateRequest("a", base="org/model"), [])
    found, remarks = read_settings(path, base="/models/dream")
    assert found.base == "/models/dream"
    assert remarks == ["It was drawn with the base 'org/model'; here 'dream' draws."]


def test_the_model_of_another_tool(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASTYLE_BASE", "/models/Dream_v8.safetensors")
    path = png(here / "a.png", parameters=f"a\n{LAST}, Model hash: 879db523c3, Model: dream_v8")
    here_too = GenerateRequest(
        "a", steps=5, guidance=7, seed=3, base="/models/Dream_v8.safetensors", base_hash="879db523c3"
    )
    assert read_settings(path) == (here_too, [])
    for other in ({"changes": {"base": "mine"}}, {"base": "mine"}):  # another base: its hash says nothing
        assert read_settings(path, **other)[0].base_hash is None  # type: ignore[arg-type]
    path = png(here / "b.png", parameters=f"a\n{LAST}, Model hash: 879db523c3, Model: other")
    assert "'other (879db523c3)', which is not at hand" in read_settings(path)[1][0]


def test_noise_of_another_tool_is_told(here: Path) -> None:
    path = png(here / "a.png", parameters="a\nSteps: 5, CFG scale: 7, Seed: 3")
    assert read_settings(path)[1] == [
        "Another tool drew it, and takes its noise from elsewhere: the same seed is not the same picture."
    ]


def started_from(folder: Path, name: str = "photo.png") -> GenerateRequest:
    """A request that started from a file of this name in `folder`."""
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (32, 32), "blue").save(folder / name)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()[:12]
    path = str(folder / name)
    return GenerateRequest("a", init=path, init_hash=digest, strength=0.4, mask=path, mask_hash=digest)


@pytest.mark.parametrize("where", [".", "pictures"])
def test_the_picture_it_started_from_is_found_here_or_beside_it(here: Path, where: str) -> None:
    request = started_from(here / where)
    found, remarks = read_settings(saved(request, "pictures/a.jpg"))
    assert (found.init_hash, found.strength, remarks) == (request.init_hash, 0.4, [])
    assert Path(found.init or "").samefile(request.init or "") and found.mask == found.init


def test_only_the_very_file_is_used(here: Path) -> None:
    """Or a stranger's picture could make us read any file by its name."""
    path = saved(started_from(here))
    Image.new("RGB", (32, 32), "red").save("photo.png")
    found, remarks = read_settings(path)
    assert (found.init, found.init_hash, found.mask, found.strength) == (None, None, None, None)
    assert "It started from the picture 'photo.png' (" in remarks[0] and "name it with init" in remarks[0]
    assert "of which 0.4 was drawn anew" in "".join(remarks)
    kept, _ = read_settings(path, keep_missing=True)
    assert (kept.init, kept.mask, kept.strength) == ("photo.png", "photo.png", 0.4)
    mine, _ = read_settings(path, changes={"init": "mine.png", "mask": None})
    assert (mine.init, mine.init_hash, mine.strength, mine.mask) == ("mine.png", None, 0.4, None)


def test_image_to_image_of_another_tool(here: Path) -> None:
    path = png(here / "a.png", parameters=f"a\n{LAST}, Denoising strength: 0.35")
    found, remarks = read_settings(path)
    assert found.strength is None and "of which 0.35 was drawn anew" in remarks[0]
    found, remarks = read_settings(path, changes={"init": "mine.png"})
    assert (found.init, found.strength, remarks) == ("mine.png", 0.35, [])


def test_changes_are_the_users_own(here: Path) -> None:
    path = saved(GenerateRequest("a", seed=3, steps=10))
    assert read_settings(path, changes={"steps": 20, "prompt": "b"})[0] == GenerateRequest(
        "b", seed=3, steps=20
    )
    with pytest.raises(ConfigError, match="steps is 0") as caught:
        read_settings(path, changes={"steps": 0})
    assert not isinstance(caught.value, PictureError)


def test_many_missing_adapters_take_no_time_each(here: Path, make_adapter: MakeAdapter) -> None:
    shutil.copy(make_adapter("cat"), here / "adapters")
    path = saved(
        GenerateRequest("a", adapters=tuple(AdapterUse(f"x{i}", 1, f"{i:012x}") for i in range(256)))
    )
    found, remarks = read_settings(path)
    assert found.adapters == () and remarks[20:] == ["And 236 more."]
