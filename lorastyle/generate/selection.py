"""K-LoRA while a picture is drawn: which of two adapters acts in which layer, at which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorastyle.adapters import turning_points
from lorastyle.bank import AdapterBank
from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError

from .uses import AdapterUse

_MOST_PAIRS = 8  # whose turning points are kept: it takes seconds to find them


@dataclass(frozen=True)
class Selection:
    """The choice between a subject and a style.

    Attributes:
        subject, style: their names in the bank.
        turning_points: {path in the UNet: share of the steps from which the style acts there}; in other
            modules each acts as it does anyway.
    """

    subject: str
    style: str
    turning_points: Mapping[str, float]

    def at(self, step: int, steps: int) -> dict[str, dict[tuple[str, str], float]]:
        """{adapter: {(component, path): 0 where the other one acts}}, at step `step` of `steps` from 0."""
        place = step / steps
        off: dict[str, dict[tuple[str, str], float]] = {self.subject: {}, self.style: {}}
        for path, turn in self.turning_points.items():
            off[self.subject if place >= turn else self.style]["unet", path] = 0.0
        return off


class Selections:
    """Makes selections, and remembers the turning points of the last pairs."""

    def __init__(self, bank: AdapterBank, base: StableDiffusion) -> None:
        self._bank, self._base = bank, base
        self._known: dict[tuple[str, str], Mapping[str, float]] = {}

    def between(self, uses: Sequence[AdapterUse], named: Mapping[AdapterUse, tuple[str, str]]) -> Selection:
        """Of the uses of one request, the first that acts on the UNet is the subject, the second the style.

        Args:
            named: what each of them is in the bank, and its content.

        Raises:
            ConfigError: these are not two, or one is not low rank.
            AdapterError: they have no module in common.
        """
        acting = [use for use in uses if use.scale_on("unet") != 0]
        if len(acting) != 2:
            listed = ", ".join(use.name for use in acting) or "none"
            raise ConfigError(
                "combine is k-lora, which chooses between two adapters, the subject first and then the "
                f"style; on the UNet act {len(acting)} ({listed}). Name two, or leave it out."
            )
        (subject, first), (style, second) = (named[use] for use in acting)
        adapters = self._bank.export(subject), self._bank.export(style)
        for use, adapter in zip(acting, adapters, strict=True):
            if adapter.dense:
                raise ConfigError(
                    f'combine is k-lora, and the adapter "{use.name}" is not low rank: it changes weights, '
                    "which cannot be chosen step by step. Leave it out, or resize it to a low rank first."
                )
        points = self._known.pop((first, second), None)
        if points is None:
            points = turning_points(*adapters, device=self._base.device)
        self._known[first, second] = points
        if len(self._known) > _MOST_PAIRS:
            del self._known[next(iter(self._known))]
        weights = [found for use in acting if (found := use.weights(self._base.family)) is not None]
        # where the blocks of one leave it out, there is nothing to choose: the other acts throughout
        both = {path: turn for path, turn in points.items() if all(w.at("unet", path) != 0 for w in weights)}
        return Selection(subject, style, both)
