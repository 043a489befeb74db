"""How a base is kept in memory: one name for each way, spelled the same in Python, on the command line and in
files.

A base computes on its device. Where that is a graphics card, what is idle can wait in the machine's own
memory, and the weights of linear layers can be held in fewer bits. Each way below needs less of the card than
the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lorastyle.errors import ConfigError, near_miss

AUTO = "auto"


@dataclass(frozen=True)
class MemoryMode:
    """One way to keep a base.

    Attributes:
        name: what people call it.
        what: what it does, in words.
        offloads: parts wait in the machine's memory and are on the device only while they work.
        bits: linear layers of the UNet and the text encoders are held in so many bits; 0 is as they are.
        sequential: the UNet's layers are fetched one by one, each time; for drawing only.
        tiles: pixels a side of the tiles in which the autoencoder takes pictures of more than `WHOLE`; 0
            leaves that to the base, which takes larger ones whole.
    """

    name: str
    what: str
    offloads: bool = False
    bits: int = 0
    sequential: bool = False
    tiles: int = 0


WHOLE = 768 * 768
MODES: Mapping[str, MemoryMode] = {
    mode.name: mode
    for mode in (
        MemoryMode("fast", "everything stays on the device"),
        MemoryMode("offload", "idle parts wait in the machine's memory", offloads=True),
        MemoryMode("int8", "as offload, with linear layers in 8 bits", offloads=True, bits=8, tiles=512),
        MemoryMode("nf4", "as offload, with linear layers in 4 bits", offloads=True, bits=4, tiles=512),
        MemoryMode(
            "sequential", "the UNet is fetched layer by layer", offloads=True, sequential=True, tiles=512
        ),
    )
}
FOR_DRAWING = (AUTO, *MODES)
FOR_TRAINING = tuple(name for name in FOR_DRAWING if name != "sequential")
"""A gradient needs all layers at once, so training cannot fetch them one by one."""


def memory_mode(name: str) -> MemoryMode:
    """The mode of this name.

    Raises:
        ConfigError: there is none; with near misses. "auto" is none: it is what leaves the choice open.
    """
    if name not in MODES:
        raise ConfigError(
            f'memory = "{name}": allowed are {", ".join(FOR_DRAWING)}.{near_miss(name.lower(), FOR_DRAWING)}'
        )
    return MODES[name]
