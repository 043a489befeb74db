"""The blocks of a base by the names that people weight them with, and a factor for each.

The UNet's blocks are counted in the order they run, as Stability's code counts them: IN00 to IN11, MID, OUT00
to OUT11. BASE is every text encoder, OTHER what lies in no block (time embedding, the last convolution). A
list of 12, 17, 20 or 26 numbers is that of github.com/hako-mikan/sd-webui-lora-block-weight. `content` and
`style` are the two blocks of SDXL that B-LoRA takes a picture apart by (Frenkel et al. 2024,
arXiv:2403.14572).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lorastyle.errors import ConfigError, near_miss, shortened

from .formats.sgm import sgm_names

_SIDES = {"input_blocks": "IN", "middle_block": "MID", "output_blocks": "OUT"}
BLOCKS = ("BASE", *(f"IN{n:02}" for n in range(12)), "MID", *(f"OUT{n:02}" for n in range(12)), "OTHER")
"""Every block that a Stable Diffusion may have, in the order they run."""
_GROUPS = ("IN", "OUT", "UNET")
_ALIASES = {"M00": "MID", "TE": "BASE"}


def _counted(side: str, *numbers: int) -> list[str]:
    return [f"{side}{n:02}" for n in numbers]


VECTORS: Mapping[int, tuple[str, ...]] = {
    12: ("BASE", *_counted("IN", 4, 5, 7, 8), "MID", *_counted("OUT", *range(6))),
    17: ("BASE", *_counted("IN", 1, 2, 4, 5, 7, 8), "MID", *_counted("OUT", *range(3, 12))),
    20: ("BASE", *_counted("IN", *range(9)), "MID", *_counted("OUT", *range(9))),
    26: ("BASE", *_counted("IN", *range(12)), "MID", *_counted("OUT", *range(12))),
}
"""What the numbers of a list stand for: SDXL's attention, SD 1.x's and 2.x's, and both with convolutions."""
_FAMILIES = {12: ("sdxl",), 17: ("sd1", "sd2"), 20: ("sdxl",), 26: ("sd1", "sd2")}


SPLITS: Mapping[str, str] = {
    "content": "unet.up_blocks.0.attentions.0",
    "style": "unet.up_blocks.0.attentions.1",
}
"""What an adapter acts on alone, of SDXL; all of its other modules have a factor of 0."""


def block_name(component: str, path: str) -> str:
    """The block that a module lies in, one of `BLOCKS`."""
    if component != "unet":
        return "BASE"
    names = sgm_names(path)
    section, _, rest = names[0].partition(".") if names else ("", "", "")
    side = _SIDES.get(section)
    if side is None or side == "MID":
        return side or "OTHER"
    number = int(rest.split(".")[0])
    return f"{side}{number:02}" if number < 12 else "OTHER"


@dataclass(frozen=True)
class BlockWeights:
    """A factor for each block of one adapter, times its scale.

    Attributes:
        factors: {block: factor}.
        paths: {a module's path, or the start of it up to a dot: factor}; the longest that fits overrules
            the others and the block. "unet." or a text encoder's name may stand before it.
        others: the factor of blocks that are not named: 1, or 0 where a list of numbers did not reach them.
        text: as it was written.
    """

    factors: Mapping[str, float]
    others: float = 1.0
    text: str = ""
    paths: Mapping[str, float] = field(default_factory=dict[str, float])

    def at(self, component: str, path: str) -> float:
        """The factor of a module."""
        fitting = [given for given in self.paths if leads_to(given, component, path)]
        if fitting:
            return self.paths[max(fitting, key=len)]
        return self.factors.get(block_name(component, path), self.others)

    @classmethod
    def parse(cls, text: str, family: str | None = None) -> BlockWeights:
        """Read "1,0,0,1,..." (12, 17, 20 or 26 numbers) or "IN:0.5,MID:0,OUT03-OUT05:1.2".

        Of names, IN and OUT are all blocks of a side and UNET is everything but BASE; a later one overrules
        those before it, and what is not named keeps a factor of 1. A name with a dot or "_" in it is the path
        of a module, or the start of one: "mid_block:0.5", "down_blocks.1.attentions:0". "content" and "style"
        are one block of SDXL alone; see `SPLITS`.

        Args:
            family: the adapter's, for which a list must have been made; None takes any list.

        Raises:
            ConfigError: another count of numbers, an unknown block, or a factor that is no finite number.
        """
        if (split := text.strip().lower()) in SPLITS:
            if family not in (None, "sdxl"):
                raise ConfigError(
                    f"Block weights {shortened(text)} are of SDXL, whose blocks tell content from style. For "
                    "this base name blocks: IN:0.5,MID:0,OUT03:1.2."
                )
            return cls({}, others=0.0, text=text, paths={SPLITS[split]: 1.0})
        items = [item.strip() for item in text.split(",")]
        if all(":" not in item for item in items):
            return cls(_listed(items, family, text), others=0.0, text=text)
        factors: dict[str, float] = {}
        paths: dict[str, float] = {}
        for item in items:
            name, colon, number = item.partition(":")
            if not colon:
                raise ConfigError(
                    f"Block weights {shortened(text)}: {shortened(item)} has no factor; write "
                    f"{shortened(item).strip(chr(39)) or 'MID'}:0.5."
                )
            if "." in name or "_" in name:
                paths[name.strip().strip(".")] = _number(number, text)
            else:
                factors.update(dict.fromkeys(_named(name.strip().upper(), text), _number(number, text)))
        return cls(factors, text=text, paths=paths)


def leads_to(given: str, component: str, path: str) -> bool:
    """Whether a path, or the start of one, with or without its component, is that of a module."""
    return any(whole == given or whole.startswith(given + ".") for whole in (path, f"{component}.{path}"))


def _listed(items: list[str], family: str | None, text: str) -> dict[str, float]:
    allowed = [n for n in VECTORS if family not in _KNOWN or family in _FAMILIES[n]]
    if len(items) not in allowed:
        raise ConfigError(
            f"Block weights {shortened(text)}: {len(items)} numbers, where "
            f"{' or '.join(map(str, allowed))} are needed for this base. Or name blocks: "
            "IN:0.5,MID:0,OUT03:1.2."
        )
    return dict(zip(VECTORS[len(items)], (_number(item, text) for item in items), strict=True))


_KNOWN = {family for families in _FAMILIES.values() for family in families}


def _named(name: str, text: str) -> Iterable[str]:
    """The blocks that a name, a group or a range stands for."""
    if name == "UNET":
        return BLOCKS[1:]
    if name in _GROUPS:
        return [block for block in BLOCKS if block.startswith(name)]
    first, dash, last = (_ALIASES.get(part, part) for part in name.partition("-"))
    ends = (first, last) if dash else (first, first)
    for end in ends:
        if end not in BLOCKS:
            raise ConfigError(
                f"Block weights {shortened(text)}: there is no block {shortened(end)}. Blocks are BASE, "
                f"IN00 to IN11, MID, OUT00 to OUT11, OTHER, IN, OUT and UNET."
                f"{near_miss(end, (*BLOCKS, *_GROUPS))}"
            )
    start, stop = (BLOCKS.index(end) for end in ends)
    if stop < start:
        raise ConfigError(f"Block weights {shortened(text)}: {name} runs backwards; write {last}-{first}.")
    return BLOCKS[start : stop + 1]


def _number(text: str, whole: str) -> float:
    plain = re.fullmatch(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", text)
    if plain is None or not math.isfinite(value := float(text)):
        raise ConfigError(f"Block weights {shortened(whole)}: {shortened(text)} is no finite number.")
    return value
