"""The judge: a small classifier of icons, trained on real icons only, apart from everything it judges.

It names a picture's style (one of six) and its subject (one of some 650). Weights lie beside this
file; `python -m tools.embedded_base.judge` makes them again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

STYLES = ("noto", "twemoji", "fluent", "flat", "sticker", "ink")
WEIGHTS = Path(__file__).with_name("classifier.safetensors")
SIDE = 64


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input passes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Trunk(nn.Module):
    """Pictures (b, 3, 64, 64) -> features after the stem and after each halving stage: 32 to 2 pixels."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False)
        self.stages = nn.ModuleList(
            nn.Sequential(Residual(before), nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False))
            for before, after in zip(widths, (*widths[1:], widths[-1]), strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features


class StyleClassifier(nn.Module):
    """Style logits (b, styles). Style lies in colours, edges and shading: moments of every stage.

    The maxima of the last stage are added, for what is telling but rare: one highlight, one outline.
    """

    def __init__(self, styles: int, widths: Sequence[int] = (32, 64, 96, 128), hidden: int = 192) -> None:
        super().__init__()
        self.trunk = Trunk(widths)
        texture = 2 * (sum(widths) + widths[-1]) + widths[-1]
        self.head = nn.Sequential(
            nn.LayerNorm(texture), nn.Linear(texture, hidden), nn.ReLU(), nn.Linear(hidden, styles)
        )

    def forward(self, x: Tensor) -> Tensor:
        stages = [t.flatten(2).float() for t in self.trunk(x)]
        moments = [f(t) for t in stages for f in (_mean, _deviation)]
        return self.head(torch.cat([*moments, stages[-1].amax(-1)], 1))


class SubjectClassifier(nn.Module):
    """Subject logits (b, subjects). Subjects lie in parts: means and maxima of the last stage."""

    def __init__(self, subjects: int, widths: Sequence[int] = (32, 64, 128, 192)) -> None:
        super().__init__()
        self.trunk = Trunk(widths)
        self.last = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.head = nn.Linear(2 * widths[-1], subjects)

    def forward(self, x: Tensor) -> Tensor:
        h = self.last(self.trunk(x)[-1])
        parts = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        return self.head(F.dropout(parts, 0.2, self.training))


class IconClassifier(nn.Module):
    """Pictures (b, 3, 64, 64) in -1..1 -> style logits (b, 6) and subject logits (b, subjects).

    Two networks with nothing in common: a style must be told by its colours too, a subject whatever
    its colours are.
    """

    def __init__(self, subjects: int) -> None:
        super().__init__()
        self.style = StyleClassifier(len(STYLES))
        self.subject = SubjectClassifier(subjects)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.style(x), self.subject(x)


def _mean(x: Tensor) -> Tensor:
    return x.mean(-1)


def _deviation(x: Tensor) -> Tensor:
    return (x.var(-1, unbiased=False) + 1e-4).sqrt()


def to_input(pictures: Sequence[Image.Image]) -> Tensor:
    """PIL pictures -> (b, 3, 64, 64) in -1..1."""
    side = (SIDE, SIDE)
    arrays = [np.asarray(p.convert("RGB").resize(side, Image.Resampling.BOX)) for p in pictures]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one picture: its style, and subjects from likely to unlikely."""

    style: str
    subjects: tuple[str, ...]


class Judge:
    """Loads the classifier and names styles and subjects."""

    def __init__(self, weights: Path = WEIGHTS) -> None:
        with safe_open(str(weights), framework="pt") as file:  # pyright: ignore[reportUnknownVariableType]
            self.subjects: tuple[str, ...] = tuple(json.loads(file.metadata()["subjects"]))
            state = {key: file.get_tensor(key).float() for key in file.keys()}
        self.model = IconClassifier(len(self.subjects))
        self.model.load_state_dict(state)
        self.model.eval()

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image], *, top: int = 5) -> list[Verdict]:
        style, subject = self.model(to_input(pictures))
        best = subject.topk(top, dim=1).indices.tolist()
        return [
            Verdict(STYLES[s], tuple(self.subjects[i] for i in row))
            for s, row in zip(style.argmax(1).tolist(), best, strict=True)
        ]
