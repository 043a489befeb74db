"""Ten seconds of the real thing: train five steps, reload the file, and compare what the base draws."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorastyle.bases import caching_in
from lorastyle.errors import LorastyleError

if TYPE_CHECKING:
    from torch import Tensor

    from lorastyle.adapters import Adapter
    from lorastyle.bases import StableDiffusion

SAMPLE, PICTURES = "sticker", ("key.png", "star.png")
STEPS = 5
SIDE = 64  # pixels: half the embedded base's own, four times as fast
LR = 1e-2  # twenty times the usual one, so that five steps can be seen
NAME = "self-test"
_REPORT = "Paste this whole output into a bug report."
_REINSTALL = "Install lorastyle again, with the versions that it was tested with (pip's -c constraints.txt)."


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    what: str
    passed: bool
    found: str
    seconds: float


@dataclass(frozen=True)
class SelfTest:
    """What came of it."""

    passed: bool
    seconds: float
    checks: tuple[Check, ...]  # up to the first that failed
    reason: str = ""  # why it failed
    next_step: str = ""


class _Differs(Exception):
    """Something came out other than it must."""


def run_self_test() -> SelfTest:
    """Run it in a temporary folder, with the embedded base on the device that would be used.

    Whatever goes wrong is told in the answer; only Ctrl-C gets out.
    """
    started, checks = time.perf_counter(), list[Check]()
    reason = next_step = ""
    try:
        with tempfile.TemporaryDirectory(prefix="lorastyle-", ignore_cleanup_errors=True) as folder:
            with caching_in(Path(folder) / "cache"):
                trial = _Trial(Path(folder))
                for what, action, advice in trial.actions():
                    reason = _tried(checks, what, action)
                    if reason:
                        next_step = advice
                        break
    except OSError as error:
        reason = f"there is no temporary folder ({error.strerror or error})"
        next_step = "Free some room, or name another folder in the environment's TMPDIR."
    return SelfTest(not reason, time.perf_counter() - started, tuple(checks), reason, next_step)


def _tried(checks: list[Check], what: str, action: Callable[[], str]) -> str:
    """Do it, note what came of it, and answer why it failed, or an empty text."""
    started = time.perf_counter()
    try:
        found, reason = action(), ""
    except (_Differs, LorastyleError) as error:
        found = reason = str(error)
    except Exception as error:  # a doctor tells whatever it meets: that is what it was called for
        found = reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    checks.append(Check(what, not reason, found, time.perf_counter() - started))
    return reason


class _Trial:
    """The actions, in order; each builds on those before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "trained.safetensors"
        self.base: StableDiffusion
        self.without: Tensor
        self.adapter: Adapter

    def actions(self) -> tuple[tuple[str, Callable[[], str], str], ...]:
        """(what, action, what to do when it fails)."""
        return (
            ("load", self.load, _REINSTALL),
            ("train", self.train, _REPORT),
            ("reload", self.reload, f"Check the disk of the temporary folder, and the memory. {_REPORT}"),
            ("switch on", self.switch_on, _REPORT),
            ("switch off", self.switch_off, _REPORT),
        )

    def load(self) -> str:
        from lorastyle.bases import load_base

        self.base = load_base("embedded")
        self.without = self._draw()
        return f"the embedded base on {self.base.device}, {str(self.base.dtype).removeprefix('torch.')}"

    def train(self) -> str:
        from lorastyle.samples import folder
        from lorastyle.train import TrainConfig, fit

        pictures = self.folder / "pictures"
        pictures.mkdir()
        for name in PICTURES:
            shutil.copy(folder(SAMPLE) / name, pictures)
        config = TrainConfig(
            images=str(pictures),
            out=str(self.file),
            trigger=NAME,
            steps=STEPS,
            batch_size=len(PICTURES),
            resolution=SIDE,
            rank=4,
            lr=LR,
            sample_prompts=("{trigger} key",),
            sample_every=0,
        )
        result = fit(config, base=self.base)
        if result.interrupted:
            raise KeyboardInterrupt
        if result.steps != STEPS or not math.isfinite(result.final_loss):
            raise _Differs(f"{result.steps} of {STEPS} steps were made, the loss is {result.final_loss}")
        return f"{STEPS} steps on {len(PICTURES)} pictures, loss {result.final_loss:.3f}"

    def reload(self) -> str:
        from lorastyle.adapters import load_adapter, model_hash, save_adapter

        self.adapter = load_adapter(self.file, self.base.module_shapes(), name=NAME)
        again = save_adapter(self.adapter, self.folder / "again.safetensors")
        before, after = model_hash(self.file), model_hash(again)
        if before != after:
            raise _Differs(f"the file holds {before[:12]}, and once loaded and written again {after[:12]}")
        return f"the file loaded is the file written, {before[:12]}"

    def switch_on(self) -> str:
        from lorastyle.bank import AdapterBank

        self.bank = AdapterBank(self.base.components)
        self.bank.add(self.adapter)
        difference = (self._draw() - self.without).abs() * 127.5  # in levels of 0 to 255
        if not bool(difference.any()):
            raise _Differs(f"the adapter of {STEPS} steps changes nothing of what the base draws")
        return f"the picture changes by {float(difference.mean()):.1f} of 255 levels on average"

    def switch_off(self) -> str:
        import torch

        self.bank.set_scales({NAME: 0.0})
        off = self._draw()
        self.bank.detach()
        for how, drawn in (("at scale 0", off), ("detached", self._draw())):
            if not torch.equal(drawn, self.without):
                changed = float((drawn != self.without).float().mean())
                raise _Differs(f"with the adapter {how}, {changed:.1%} of the base's numbers are others")
        return "at scale 0 and detached: the base's own picture, every bit"

    def _draw(self) -> Tensor:
        """One prediction, decoded: every part of the base has its say, in floating point."""
        import torch

        base = self.base
        side = SIDE // base.pixels_per_latent
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((1, base.latent_channels, side, side), generator=generator).to(base.device)
        with torch.no_grad():
            embeds = base.encode_prompts([f"{NAME} key"])
            predicted = base.predict(noise, torch.full((1,), 500, device=base.device), embeds)
            return base.decode(noise - predicted).float().cpu()
