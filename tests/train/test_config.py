"""Settings: all problems at once, near misses, and TOML that is its own way back."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from pathlib import Path

import pytest

from lorastyle.errors import ConfigError
from lorastyle.train.config import KEYS, TrainConfig

ALL: dict[str, object] = {
    "images": "/pictures/cat",
    "out": "/made/cat.safetensors",
    "base": "org/model",
    "name": "Møøse",
    "trigger": "moose",
    "class_name": "cat",
    "kind": "subject",
    "steps": 7,
    "batch_size": 3,
    "resolution": 512,
    "rank": 8,
    "alpha": 4.5,
    "rslora": True,
    "dropout": 0.1,
    "targets": ("attention", "*.ff.*"),
    "lr": 3e-4,
    "text_encoder_lr": 0.0,
    "weight_decay": 0.02,
    "clip_skip": 2,
    "min_snr_gamma": 0.0,
    "prior": 0.5,
    "prior_images": 20,
    "prior_folder": "/class",
    "seed": 2**53 - 1,
    "sample_prompts": ('a "quoted" cat', "two cats"),
    "sheet": False,
    "sidecars": True,
    "sample_every": 0,
    "save_every": 50,
    "gradient_checkpointing": True,
    "precision": "bfloat16",
    "memory": "offload",
    "background": "#e0e0e0",
}


def problems(**values: object) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_mapping({"images": "x", **values})
    return caught.value.problems


def test_every_problem_is_told_at_once() -> None:
    told = problems(
        steps="many", rank=0, precison="bf16", precision="half", resolution=100, kind="stile", out="a.pt"
    )
    assert told == (
        'precison is no setting. Did you mean "precision"?',
        'kind = "stile": allowed are "style", "subject". Did you mean "style"?',
        'steps = "many": must be a whole number, such as steps = 600.',
        "rank = 0: out of range; allowed is from 1 to 4,096, such as rank = 16.",
        'precision = "half": allowed are "auto", "float32", "bfloat16".',
        "resolution = 100: must be a multiple of 8; the nearest is 96.",
        f'out = "{os.path.abspath("a.pt")}": must end in .safetensors; '
        f'try "{os.path.abspath("a.safetensors")}".',
    )


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("steps", "600", 'steps = "600": write it without quotes, steps = 600.'),
        ("steps", True, "steps = true: must be a whole number"),
        ("resolution", 9999999, "resolution = 9999999: out of range"),
        ("out", "a.png", 'a.safetensors"'),
        ("out", "a.v2", 'a.v2.safetensors"'),
        ("steps", 2.5, "steps = 2.5: must be a whole number"),
        ("lr", math.nan, "lr = nan: out of range"),
        ("lr", math.inf, "lr = inf: out of range"),
        ("lr", -1, "lr = -1: out of range"),
        ("lr", "fast", 'lr = "fast": must be a number, such as lr = 0.0001.'),
        ("rslora", "yes", 'rslora = "yes": must be true or false'),
        ("trigger", 7, "trigger = 7: must be a text in quotes."),
        ("trigger", "a\nb", "one line"),
        ("trigger", "cat, big", "must have no commas"),
        ("name", "a/b", "a name has no slashes"),
        ("name", "..", "a letter or a digit"),
        (
            "targets",
            ["attention", 3],
            'targets = ["attention", 3]: must be a list of texts, such as targets = ["',
        ),
        ("targets", 3, "must be a list of texts"),
        ("background", "whiet", "no such colour"),
        ("images", "", "images is missing: name the folder of your pictures"),
        ("base", " ", "base is missing"),
        ("class_name", "cat", 'class_name is no setting. Did you mean "class"?'),
        ("train", {"steps": 3}, "train is a table; settings stand at the top of the file, without [train]."),
    ],
)
def test_wrong_values(key: str, value: object, told: str) -> None:
    (problem,) = problems(**{key: value})
    assert told in problem


@pytest.mark.parametrize("toml", ["steps = " + "1" * 5000, "images = " + "[" * 50_000])
def test_toml_beyond_what_python_parses_is_told(toml: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(toml)
    with pytest.raises(ConfigError, match=r"thousands of digits, or lists in lists"):
        TrainConfig.from_toml(tmp_path / "run.toml")


def test_values_that_mean_the_same_are_read() -> None:
    config = TrainConfig(
        images=Path("x"),  # type: ignore[arg-type]  # a path is fine
        steps=600.0,  # type: ignore[arg-type]  # 6e2 in TOML
        prior=True,
        precision="bf16",
        targets="all",  # type: ignore[arg-type]
        alpha=8,
        name="",
    )
    assert (config.steps, config.prior, config.precision, config.targets) == (600, 1.0, "bfloat16", ("all",))
    assert config.images == os.path.abspath("x")
    assert isinstance(config.steps, int) and isinstance(config.alpha, float) and config.name is None


def test_images_are_needed() -> None:
    with pytest.raises(ConfigError, match=r"^images is missing"):
        TrainConfig.from_mapping({})


def test_toml_there_and_back_is_the_identity(tmp_path: Path) -> None:
    assert ALL.keys() == {f.name for f in fields(TrainConfig)}, "a new field needs a value here"
    default, full = TrainConfig(images="x"), TrainConfig(**ALL)  # type: ignore[arg-type]
    for f in fields(TrainConfig):
        assert getattr(full, f.name) != getattr(default, f.name), (
            f"{f.name} is at its default: nothing is shown"
        )
    text = ""
    for i, config in enumerate((default, full)):
        text = config.to_toml(tmp_path / f"{i}.toml")
        assert (tmp_path / f"{i}.toml").read_text(encoding="utf-8") == text
        assert TrainConfig.from_toml(tmp_path / f"{i}.toml") == config
        assert TrainConfig.from_toml(tmp_path / f"{i}.toml", {"steps": 8}) != config
    assert 'class = "cat"' in text and "class_name" not in text


@pytest.mark.parametrize("key", sorted(ALL))
def test_each_setting_survives_alone(tmp_path: Path, key: str) -> None:
    config = TrainConfig(**{"images": "x", key: ALL[key]})  # type: ignore[arg-type]
    toml = config.to_toml(tmp_path / "run.toml")
    assert f"{KEYS.get(key, key)} = " in toml
    assert TrainConfig.from_toml(tmp_path / "run.toml") == config


def test_a_folder_with_its_settings_can_be_moved(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    (here / "model").mkdir(parents=True)
    config = TrainConfig(
        images=str(here / "cat"),
        out=str(here / "made" / "cat.safetensors"),
        base=str(here / "model"),
        prior_folder=str(tmp_path / "outside"),
    )
    toml = config.to_toml(here / "run.toml")
    assert str(here) not in toml and str(tmp_path / "outside") in toml
    assert TrainConfig.from_toml(here / "run.toml") == config
    here.rename(elsewhere)
    moved = TrainConfig.from_toml(elsewhere / "run.toml")
    assert moved.images == str(elsewhere / "cat") and moved.base == str(elsewhere / "model")
    assert str(here) in config.to_toml(), "without a place to start from, paths are whole"


def test_where_relative_paths_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.toml").write_text('\ufeffimages = "cat"\r\nbase = "./model"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path.parent)
    read = TrainConfig.from_toml(tmp_path / "run.toml", {"out": "a.safetensors"})
    assert read.images == str(tmp_path / "cat") and read.base == str(tmp_path / "model")
    assert read.out == str(tmp_path.parent / "a.safetensors"), "a flag starts where it was typed"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TrainConfig(images="~/cat").images == str(tmp_path / "cat")


def test_problems_say_which_file_they_are_in(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('images = "cat"\nsteps = "many"\nranks = 3\n')
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_toml(tmp_path / "run.toml", {"lr": -1.0})
    assert [problem.split(" = ")[0].split(" is ")[0] for problem in caught.value.problems] == [
        "run.toml: ranks",
        "run.toml: steps",
        "lr",
    ]


def test_a_file_that_is_missing_or_no_toml_says_so(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("steps = = 3")
    (tmp_path / "latin.toml").write_bytes('name = "Мишка"'.encode("cp1251"))
    for name, told in (
        ("bad.toml", "not valid TOML.*line 1"),
        ("latin.toml", "UTF-8"),
        ("none.toml", "cannot be read.*No such file"),
        (".", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=told):
            TrainConfig.from_toml(tmp_path / name)


def test_a_full_disk_leaves_the_settings_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.toml"
    TrainConfig(images="x", steps=1).to_toml(file)
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        TrainConfig(images="x", steps=2).to_toml(file)
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_a_file_wins_over_defaults_and_flags_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('images = "cats"\nsteps = 5\n')
    defaults = {"base": "org/model", "steps": 7}
    assert TrainConfig.from_toml(path, defaults=defaults).base == "org/model"
    assert TrainConfig.from_toml(path, defaults=defaults).steps == 5
    assert TrainConfig.from_toml(path, {"base": "org/other"}, defaults=defaults).base == "org/other"


def test_empty_lists_and_names_in_no_encoding_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(images="caf\udce9", targets=(), sample_prompts=())
    told = " ".join(caught.value.problems)
    assert "no text in UTF-8" in told and told.count("must be a list of texts") == 2
