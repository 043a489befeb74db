"""Adapters from the Hub, from a stand-in on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorastyle.adapters import model_hash
from lorastyle.errors import AdapterError
from lorastyle.hub import cached, pull
from tests.stand_in import TOKEN, StandIn

from .conftest import write_adapter


def test_the_one_file_of_a_repository_is_fetched_and_named(hub: StandIn, repository: Path) -> None:
    own = write_adapter(repository / "ink.safetensors")
    (repository / "README.md").write_text("---\n---\n")
    assert cached("ada/inks/ink.safetensors") is None
    name, file = pull("ada/inks") or ("", Path())
    assert name == "ada/inks/ink.safetensors"
    assert model_hash(file) == model_hash(own)
    assert hub.sent() == ["ink.safetensors"] * len(hub.sent()) != []
    assert cached(name) == file


def test_a_named_file_is_fetched_once(
    hub: StandIn, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(repository / "old" / "ink.safetensors")
    name = "ada/inks@main/old/ink.safetensors"
    first = pull(name)
    assert first is not None and first[0] == name
    asked = len(hub.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert pull(name) == first
    assert len(hub.asked) == asked > 0


def test_diffusers_usual_name_comes_first(hub: StandIn, repository: Path) -> None:
    write_adapter(repository / "a.safetensors", seed=1.0)
    usual = write_adapter(repository / "pytorch_lora_weights.safetensors")
    _, file = pull("ada/inks") or ("", Path())
    assert model_hash(file) == model_hash(usual) != model_hash(repository / "a.safetensors")


def test_a_base_and_a_run_beside_it_are_not_taken(hub: StandIn, repository: Path) -> None:
    own = write_adapter(repository / "ink.safetensors")
    write_adapter(repository / "unet" / "model.safetensors", seed=1.0)
    write_adapter(repository / "checkpoint-500.safetensors", seed=1.0)
    _, file = pull("ada/inks") or ("", Path())
    assert model_hash(file) == model_hash(own)


def test_a_peft_folder_comes_whole(hub: StandIn, repository: Path) -> None:
    repository.rmdir()
    write_adapter(repository, format="peft")
    (repository / "notes.txt").write_text("not needed")
    name, folder = pull("ada/inks") or ("", Path())
    assert name == "ada/inks"
    assert model_hash(folder) == model_hash(repository)
    assert cached("ada/inks") == folder
    assert "notes.txt" not in hub.sent()


def test_without_a_network_what_is_here_is_taken(
    hub: StandIn, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.rmdir()
    write_adapter(repository, format="peft")
    first = pull("ada/inks")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert pull("ada/inks") == first is not None


def test_what_is_no_name_of_the_hub_asks_nobody(hub: StandIn) -> None:
    assert pull("adapters/ink.safetensors") is None
    assert pull("ink") is None
    assert hub.asked == []


def complaint(name: str) -> str:
    with pytest.raises(AdapterError) as caught:
        pull(name)
    return str(caught.value)


def test_several_are_listed(hub: StandIn, repository: Path) -> None:
    write_adapter(repository / "a.safetensors")
    write_adapter(repository / "b.safetensors")
    said = complaint("ada/inks@main")
    assert said.startswith("ada/inks has 2 adapters: a.safetensors, b.safetensors. Name one: ")
    assert said.endswith("-a ada/inks@main/a.safetensors")

    assert "It has a.safetensors, b.safetensors." in complaint("ada/inks/c.safetensors")


def test_what_is_no_adapter_is_told(hub: StandIn, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "pytorch_lora_weights.bin").write_bytes(b"a pickle")
    assert "only pytorch_lora_weights.bin: pickles can run code" in complaint("ada/inks")
    (repository / "model_index.json").write_text("{}")
    assert complaint("ada/inks") == "ada/inks is a base, not an adapter. Draw with it: --base ada/inks"
    write_adapter(repository / "ink.safetensors")
    monkeypatch.setattr("lorastyle.hub.pulling.LARGEST", 1000)
    assert "more than an adapter is" in complaint("ada/inks")
    assert hub.sent() == []


def test_why_the_hub_did_not_answer_is_told(
    hub: StandIn, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adapter(repository / "ink.safetensors")
    assert "has no such public model" in complaint("ada/pens")
    assert 'no revision "v2". It has main.' in complaint("ada/inks@v2")
    hub.gated.add("ada/inks")
    assert "Accept its terms on its page" in complaint("ada/inks")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pull("ada/inks") is not None
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "switched off by HF_HUB_OFFLINE. Unset it, or name a file that is here." in complaint("ada/pens")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in complaint("ada/pens")
