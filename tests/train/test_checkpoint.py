"""A checkpoint holds a run to the bit, and says what is wrong where it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lorastyle.errors import ConfigError, TrainingError
from lorastyle.train.checkpoint import check_recipe, load_checkpoint, restore, save_checkpoint


class Run:
    """Two parameters that walk downhill."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 2), (5,))]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.1)

    def walk(self, steps: int) -> Run:
        for _ in range(steps):
            sum((p**4).sum() for p in self.parameters).backward()  # type: ignore[union-attr]
            self.optimizer.step()
            self.optimizer.zero_grad()
        return self

    def save(self, path: Path, step: int = 5) -> Path:
        return save_checkpoint(
            path, self.parameters, self.optimizer, step=step, loss=0.5, recipe={"rank": "2", "seed": "0"}
        )


def equal(a: Run, b: Run) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters, b.parameters, strict=True))


def test_going_on_is_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    path = Run().walk(5).save(tmp_path / "c.safetensors")
    found = load_checkpoint(path)
    assert (found.step, found.loss) == (5, 0.5)
    resumed = Run()
    restore(found, resumed.parameters, resumed.optimizer)
    assert equal(resumed.walk(5), Run().walk(10))

    forgetful = Run()  # the same weights without the optimiser's memory go elsewhere
    for parameter, value in zip(forgetful.parameters, Run().walk(5).parameters, strict=True):
        parameter.data.copy_(value.data)
    assert not equal(forgetful.walk(5), Run().walk(10))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(OSError, match="directory"):
        load_checkpoint(tmp_path)
    path = Run().walk(1).save(tmp_path / "c.safetensors")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(TrainingError, match="damaged"):
        load_checkpoint(path)


def test_another_adapter_is_refused(tmp_path: Path) -> None:
    found = load_checkpoint(Run().walk(1).save(tmp_path / "c.safetensors"))
    run = Run()
    with pytest.raises(TrainingError, match="2 trainable tensors; this run has 1"):
        restore(found, run.parameters[:1], run.optimizer)
    other = [run.parameters[0], nn.Parameter(torch.zeros(4))]
    with pytest.raises(TrainingError, match=r"\(5,\).*\(4,\)"):
        restore(found, other, torch.optim.AdamW(other))


def test_every_changed_setting_is_named(tmp_path: Path) -> None:
    found = load_checkpoint(Run().walk(1).save(tmp_path / "c.safetensors"))
    check_recipe(found, {"rank": "2", "seed": "0"})
    with pytest.raises(ConfigError) as caught:
        check_recipe(found, {"rank": "4", "seed": "1"})
    assert len(caught.value.problems) == 2 and "rank was 2" in caught.value.problems[0]


def test_a_failed_write_keeps_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Run().walk(5).save(tmp_path / "c.safetensors")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError):
        Run().walk(6).save(path, step=6)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
