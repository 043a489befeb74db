"""The self-test passes, and fails with its reason for each thing that it is there to find."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorastyle.adapters import Adapter, load_adapter
from lorastyle.bank import AdapterBank
from lorastyle.doctor.selftest import SelfTest, run_self_test
from lorastyle.errors import TrainingError

ALL = ("load", "train", "reload", "switch on", "switch off")


def failed_at(test: SelfTest) -> str:
    """The last check; all before it passed."""
    assert not test.passed and test.reason and test.next_step
    assert [check.passed for check in test.checks] == [True] * (len(test.checks) - 1) + [False]
    return test.checks[-1].what


@pytest.mark.usefixtures("tiny_embedded")
def test_it_passes_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    test = run_self_test()
    assert test.passed and test.reason == test.next_step == ""
    assert tuple(check.what for check in test.checks) == ALL
    assert all(check.passed and check.found for check in test.checks)
    assert os.environ["LORASTYLE_CACHE"] == str(tmp_path / "cache")
    assert list(tmp_path.rglob("*")) == [tmp_path / "temporary"]


@pytest.mark.usefixtures("tiny_embedded")
def test_a_broken_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, modules: Any, *, name: str) -> Adapter:
        adapter = load_adapter(path, modules, name=name)
        unet = dict(adapter.components["unet"])
        first = next(iter(unet))
        unet[first] = replace(unet[first], down=unet[first].down * 1.5)
        return replace(adapter, components={"unet": unet})

    monkeypatch.setattr("lorastyle.adapters.load_adapter", load)
    test = run_self_test()
    assert failed_at(test) == "reload" and "loaded and written again" in test.reason


def add_nothing(bank: AdapterBank, adapter: Adapter) -> None:
    ADD(bank, adapter, scale=0.0)


def stay(bank: AdapterBank, scales: object) -> None:
    """In the place of `set_scales`."""


def detach_only_after_training(bank: AdapterBank) -> None:
    if bank.trainable is not None:
        DETACH(bank)
    else:
        bank.set_scales({name: 1.0 for name in bank.names})


ADD, DETACH = AdapterBank.add, AdapterBank.detach


@pytest.mark.usefixtures("tiny_embedded")
@pytest.mark.parametrize(
    ("method", "broken", "where", "reason"),
    [
        ("add", add_nothing, "switch on", "changes nothing"),
        ("set_scales", stay, "switch off", "at scale 0"),
        ("detach", detach_only_after_training, "switch off", "detached"),
    ],
)
def test_an_adapter_that_cannot_be_switched(
    method: str, broken: Callable[..., None], where: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdapterBank, method, broken)
    test = run_self_test()
    assert failed_at(test) == where and reason in test.reason


@pytest.mark.usefixtures("tiny_embedded")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("by\nnothing"), "ZeroDivisionError: by nothing"),
        (TrainingError("The loss is no number. Lower it."), "The loss is no number. Lower it."),
    ],
)
def test_whatever_is_raised_is_told(error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("lorastyle.train.fit", fit)
    test = run_self_test()
    assert failed_at(test) == "train" and test.reason == reason


def test_ctrl_c_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorastyle.bases.load_base", load)
    with pytest.raises(KeyboardInterrupt):
        run_self_test()


def test_no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    test = run_self_test()
    assert not test.passed and "temporary folder" in test.reason and "TMPDIR" in test.next_step
