"""Where the parts of a base are: on the device while they work, elsewhere while they wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from lorastyle.bank import GatedLayer
from lorastyle.errors import BaseError

from .memory import MODES, MemoryMode, memory_mode
from .quantised import quantise

HOME = torch.device("cpu")


class Placement:
    """Keeps a base's parts as a `MemoryMode` says.

    What is idle waits in the machine's memory; `using` fetches it, and takes it back whatever happens.
    Adapters that are attached travel with their layers. Where the device is the processor, nothing moves.

    Args:
        parts: "unet", "vae" and the text encoders, all in one place.
        device: where they compute.

    Attributes:
        mode: how they are kept; "fast" where they are on the device already.
        settled: False while nobody has chosen; until `arrange` they are then kept as in "offload".
    """

    def __init__(self, parts: Mapping[str, nn.Module], device: torch.device) -> None:
        self.parts, self.device = dict(parts), device
        there = next(self.parts["unet"].parameters()).device
        self.settled = there == device
        self.mode: MemoryMode = MODES["fast" if self.settled else "offload"]
        self._waiting = set[str]() if self.settled else set(self.parts)
        self._using = Counter[str]()

    @contextmanager
    def using(self, *names: str) -> Generator[None]:
        """These parts are on the device for the length of a `with` block; then all are where they were.

        What has to be fetched works alone: parts of a block around this one wait meanwhile, unless they are
        named here too. Where a gradient is wanted, the backward pass belongs into the block.
        """
        with ExitStack() as stack:
            for name in names:
                self._using[name] += 1
                stack.callback(self._leave, name)
            if missing := [name for name in names if name in self._waiting]:
                for name in self._movable - self._waiting - set(names):
                    stack.callback(self._move, name, self.device)
                    self._move(name, HOME)
                for name in missing:
                    stack.callback(self._move, name, HOME)  # before fetching it, which may end half-way
                    self._move(name, self.device)
            yield

    def arrange(self, memory: str) -> None:
        """Keep the parts in another way from now on.

        Raises:
            ConfigError: no such mode.
            BaseError: the parts are in use; layers that were rounded would have to be restored; adapters are
                attached where layers are to be exchanged; or bitsandbytes is wanted and missing.
        """
        mode = memory_mode(memory)
        self._check(mode)
        self._fetch_by_layer(False)
        if mode.bits and not self.mode.bits:
            for name, part in self.parts.items():
                if name != "vae":
                    quantise(part, mode.bits, device=self.device)
        self.mode = mode
        self.settled = True
        for name in self.parts:
            self._move(name, HOME if mode.offloads else self.device)
        self._fetch_by_layer(mode.sequential)

    @property
    def _movable(self) -> set[str]:
        return set(self.parts) - ({"unet"} if self.mode.sequential else set())

    def _leave(self, name: str) -> None:
        self._using[name] -= 1

    def _move(self, name: str, device: torch.device) -> None:
        if device == self.device:
            self._waiting.discard(name)
        else:
            self._waiting.add(name)
        self.parts[name].to(device)

    def _fetch_by_layer(self, wanted: bool) -> None:
        """Let accelerate bring each layer of the UNet when it is called, or no longer."""
        from accelerate import cpu_offload
        from accelerate.hooks import remove_hook_from_submodules

        unet = self.parts["unet"]
        if wanted:
            cpu_offload(unet, self.device)
            self._waiting.discard("unet")
        elif self.mode.sequential:
            remove_hook_from_submodules(unet)
            self._waiting.add("unet")

    def _check(self, mode: MemoryMode) -> None:
        if self.mode.bits and mode.bits != self.mode.bits:
            raise BaseError(
                f'The base is loaded as "{self.mode.name}" and the other weights are gone. Load it again '
                f'with memory="{mode.name}".'
            )
        if busy := [name for name, count in self._using.items() if count]:
            raise BaseError(f'The base is at work ({", ".join(busy)}). Choose "{mode.name}" when it is not.')
        exchanged = mode.bits != self.mode.bits or mode.sequential != self.mode.sequential
        if exchanged and any(
            isinstance(m, GatedLayer) for part in self.parts.values() for m in part.modules()
        ):
            raise BaseError(
                f'Adapters are attached, and "{mode.name}" changes the layers beneath them. Choose it first, '
                "or detach() the bank for it."
            )
