"""What stands in the page's fields, to and from the one request schema."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from lorastyle.errors import ConfigError
from lorastyle.generate import AdapterUse, GenerateRequest

from .shelf import Cards
from .slots import SCALE, SLOTS, Row
from .starts import StartPicture

MOST_PICTURES, MOST_STEPS, MOST_PIXELS = 16, 150, 2048
STEPS, HIRES_STRENGTH, STRENGTH = 30, 0.4, 0.6
OWN_SCHEDULER = ""


def with_own_names(uses: Iterable[AdapterUse]) -> tuple[AdapterUse, ...]:
    """The same uses, with a number behind a name that another of them has, too."""
    taken: set[str] = set()
    named: list[AdapterUse] = []
    for use in uses:
        names = (use.name if i == 1 else f"{use.name}-{i}" for i in count(1))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        named.append(replace(use, name=name))
    return tuple(named)


@dataclass(frozen=True)
class Base:
    """What a base draws with where nothing is said."""

    name: str
    resolution: int
    guidance: float
    rescale: float


@dataclass(frozen=True)
class Form:
    """The fields; their order is that of the page's components."""

    prompt: str = ""
    negative: str = ""
    seed: int | None = None
    locked: bool = False
    """Whether the seed is used again, or a new one drawn by lot."""
    number: int = 1
    width: int = 512
    height: int = 512
    steps: int = STEPS
    guidance: float = 5.0
    scheduler: str = OWN_SCHEDULER
    clip_skip: int = 1
    rescale: float = 0.0
    hires: float = 1.0
    hires_strength: float = HIRES_STRENGTH
    init: str = ""
    """The id of the picture to start from; none is noise."""
    strength: float = STRENGTH
    """How much of it is drawn anew."""
    mask: str = ""
    adapters: tuple[tuple[str, Row], ...] = field(default=())
    """(id, row) of each that stands in a row."""

    @classmethod
    def empty(cls, base: Base) -> Form:
        return cls(
            width=base.resolution, height=base.resolution, guidance=base.guidance, rescale=base.rescale
        )

    def request(
        self, cards: Cards, base: Base, starts: Mapping[str, StartPicture] | None = None
    ) -> GenerateRequest:
        """The request of these fields, with a seed.

        An adapter that is switched off is left out. Guidance at the base's own value is left to the base
        where its scheduler is too, since adapters for few steps change both.

        Raises:
            ConfigError: no prompt, values that cannot be used, an id that means no adapter or no picture.
        """
        if not self.prompt.strip():
            raise ConfigError("Say what to draw: the prompt is empty.")
        unknown = [id for id, _ in self.adapters if id not in cards]
        if unknown:
            raise ConfigError("An adapter in the rows is no longer there. Take it out, or reload the page.")
        rows = [(cards[id], row.scale) for id, row in self.adapters[:SLOTS] if row.on]
        far = [(card.title, scale) for card, scale in rows if not SCALE[0] <= scale <= SCALE[1]]
        if far:
            raise ConfigError(
                [
                    f"Scale of {title} is {scale:g}; {SCALE[0]:g} to {SCALE[1]:g} can be drawn here."
                    for title, scale in far
                ]
            )
        mask = self.mask if self.init else ""
        if any(id and id not in (starts or {}) for id in (self.init, mask)):
            raise ConfigError("The picture to start from is no longer there. Take it out, and drop it again.")
        own = self.scheduler == OWN_SCHEDULER
        values: dict[str, object] = {
            "prompt": self.prompt.strip(),
            "negative_prompt": self.negative.strip(),
            "adapters": with_own_names(
                AdapterUse(card.name, scale, file=card.path) for card, scale in rows if scale
            ),
            "seed": self.seed if self.locked and self.seed is not None else secrets.randbelow(2**32),
            "number": self.number,
            "width": self.width,
            "height": self.height,
            "steps": self.steps,
            "guidance": None if own and self.guidance == base.guidance else self.guidance,
            "guidance_rescale": self.rescale,
            "clip_skip": self.clip_skip,
            "scheduler": None if own else self.scheduler,
            "hires": self.hires,
            "hires_strength": None if self.hires == 1 else self.hires_strength,
            "base": base.name,
        }
        if starts and self.init:
            # At the page's own value the base decides: within a mask an inpainting base draws all of it anew.
            strength = None if self.strength == STRENGTH else self.strength
            values |= {"init": str(starts[self.init].path), "strength": strength}
            values["mask"] = str(starts[mask].path) if mask else None
        return GenerateRequest.from_dict(values)

    @classmethod
    def of(
        cls, request: GenerateRequest, adapters: Sequence[tuple[str, Row]], base: Base
    ) -> tuple[Form, list[str]]:
        """The fields that draw `request` again, and a sentence for what the page has no room for."""
        remarks: list[str] = []

        def within(what: str, value: int, most: int) -> int:
            if value > most:
                remarks.append(
                    f"{what}: {value} in the picture, {most} here, which is the most of this page."
                )
            return min(value, most)

        if request.combine is not None:
            remarks.append(
                f"It was drawn with its adapters combined as {request.combine}; this page adds them up, and "
                "draws another picture."
            )
        if len(adapters) > SLOTS:
            remarks.append(f"It was drawn with {len(adapters)} adapters; this page has room for {SLOTS}.")
        empty = cls.empty(base)
        form = replace(
            empty,
            prompt=request.prompt,
            negative=request.negative_prompt,
            seed=request.seed,
            locked=request.seed is not None,
            width=within("Width", request.width or empty.width, MOST_PIXELS),
            height=within("Height", request.height or empty.height, MOST_PIXELS),
            steps=within("Steps", request.steps, MOST_STEPS),
            guidance=empty.guidance if request.guidance is None else request.guidance,
            scheduler=request.scheduler or OWN_SCHEDULER,
            clip_skip=request.clip_skip,
            rescale=base.rescale if request.guidance_rescale is None else request.guidance_rescale,
            hires=request.hires,
            hires_strength=request.hires_strength or HIRES_STRENGTH,
            adapters=tuple(adapters[:SLOTS]),
        )
        return form, remarks
