"""Adapters onto the Hub, to a stand-in on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from lorastyle.adapters import model_hash, read_header, read_info
from lorastyle.errors import HubError, PictureError
from lorastyle.hub import Example, prepared, publish, pull
from tests.stand_in import TOKEN, StandIn

from .conftest import write_adapter

# huggingface_hub's own, where it sends by git's LFS
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def picture(path: Path) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat\nSteps: 4, secret: /home/ada/cats")
    Image.new("RGB", (64, 48), "navy").save(path, pnginfo=info)
    return path


def test_nothing_is_sent_until_it_is_published(hub: StandIn, token: None, tmp_path: Path) -> None:
    with prepared(write_adapter(tmp_path / "ink.safetensors"), "ada/new") as upload:
        assert list(upload.files) == ["README.md", "ink.safetensors"]
        assert upload.sizes()["ink.safetensors"] == (tmp_path / "ink.safetensors").stat().st_size
    assert hub.asked == []


def test_there_and_back(hub: StandIn, token: None, tmp_path: Path) -> None:
    own = write_adapter(tmp_path / "ink.safetensors")
    shown = [Example(picture(tmp_path / "cat.png"), "a cat, ink style")]
    with prepared(own, "ada/new", examples=shown) as upload:
        done = publish(upload)
    assert (done.url, done.private, done.card_kept) == (f"{hub.endpoint}/ada/new", True, False)
    assert hub.private == {"ada/new"}
    assert sum(what.endswith("/commit/main") for what in hub.asked) == 1
    there = hub.models["ada/new"]
    assert (there / "README.md").read_text("utf-8") == upload.card
    assert "pictures/01.png" in upload.card and "a cat, ink style" in upload.card
    with Image.open(there / "pictures" / "01.png") as sent:
        assert sent.size == (64, 48) and sent.getpixel((5, 5)) == (0, 0, 128)
        assert not sent.info, "a picture carries nothing but its pixels"
    name, file = pull("ada/new") or ("", Path())
    assert name == "ada/new/ink.safetensors" and file.read_bytes() == own.read_bytes()


def test_what_is_private_stays_here(hub: StandIn, token: None, tmp_path: Path) -> None:
    secrets = {"ss_tag_frequency": '{"ada": {"a cat": 3}}', "ss_sd_model_name": "/home/ada/models/base.ckpt"}
    own = write_adapter(tmp_path / "ink.safetensors", secrets)
    before = own.read_bytes()
    with prepared(own, "ada/new") as upload:
        assert set(upload.cleaned) == set(secrets)
        assert "ada/models" not in upload.card
        publish(upload)
    there = hub.models["ada/new"] / "ink.safetensors"
    assert read_header(there).metadata.get("ss_sd_model_name") == "base.ckpt"
    assert b"home/ada" not in there.read_bytes() and b"a cat" not in there.read_bytes()
    assert model_hash(there) == model_hash(own) and own.read_bytes() == before
    with prepared(own, "ada/new", keep_private=True) as upload:
        assert upload.cleaned == () and upload.files["ink.safetensors"] == own


def test_a_peft_folder_is_sent_whole_without_its_path(hub: StandIn, token: None, tmp_path: Path) -> None:
    own = write_adapter(tmp_path / "ink", format="peft")
    config = next(own.rglob("adapter_config.json"))
    told = json.loads(config.read_text()) | {"base_model_name_or_path": "/home/ada/models/sd15"}
    config.write_text(json.dumps(told))
    (own / "diary.txt").write_text("not sent")
    with prepared(own, "ada/new") as upload:
        publish(upload)
        assert "base_model_name_or_path" in upload.cleaned
    there = hub.models["ada/new"]
    assert not (there / "diary.txt").exists()
    assert model_hash(there) == model_hash(own)
    assert "/home" not in next(there.rglob("adapter_config.json")).read_text()
    assert read_info(there).formats == ("peft",)


def test_public_only_when_asked(hub: StandIn, token: None, tmp_path: Path) -> None:
    with prepared(write_adapter(tmp_path / "ink.safetensors"), "ada/new") as upload:
        assert not publish(upload, public=True).private and hub.private == set()
        sent = len(hub.asked)
        with pytest.raises(HubError, match=r"everybody sees it. Add --public"):
            publish(upload)
        assert not [what for what in hub.asked[sent:] if what.startswith(("POST", "PUT"))]


def test_a_card_that_is_there_is_left(hub: StandIn, token: None, tmp_path: Path) -> None:
    with prepared(write_adapter(tmp_path / "ink.safetensors"), "ada/new") as upload:
        publish(upload)
        (hub.models["ada/new"] / "README.md").write_text("by hand")
        assert publish(upload).card_kept
        assert (hub.models["ada/new"] / "README.md").read_text() == "by hand"
        assert not publish(upload, replace_card=True).card_kept
        assert (hub.models["ada/new"] / "README.md").read_text() == upload.card


def test_why_it_was_not_published_is_told(
    hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = write_adapter(tmp_path / "ink.safetensors")

    def complaint(repo: str = "ada/new") -> str:
        with prepared(own, repo) as upload, pytest.raises(HubError) as caught:
            publish(upload)
        return str(caught.value)

    assert "it asks who you are: `hf auth login`, or set HF_TOKEN." in complaint()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept the token" in complaint()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.foreign.add("eve")
    assert "the token may not write to eve/new" in complaint("eve/new")
    hub.full = True
    assert "sending it failed" in complaint() and "The same command tries again." in complaint()
    hub.full = False
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in complaint()


@pytest.mark.parametrize("repo", ["inks", "ada/inks@main", "ada/ink.safetensors", "../inks", ""])
def test_a_name_that_is_none_is_refused(tmp_path: Path, repo: str) -> None:
    own = write_adapter(tmp_path / "ink.safetensors")
    with pytest.raises(HubError, match="is no repository of the Hub"), prepared(own, repo):
        pass
    with pytest.raises(HubError, match="is no base model of the Hub"):
        with prepared(own, "ada/inks", base_model="./base"):
            pass


def test_a_picture_that_is_none_is_refused(tmp_path: Path) -> None:
    own = write_adapter(tmp_path / "ink.safetensors")
    (tmp_path / "cat.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"cat\.png"):
        with prepared(own, "ada/inks", examples=[Example(tmp_path / "cat.png", "a cat")]):
            pass
