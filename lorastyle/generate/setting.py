"""What an engine is set to for one request: its adapters at their scales, beside the weights or fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorastyle.bank import AdapterBank
from lorastyle.bases import is_out_of_memory, release_memory
from lorastyle.notes import note

from .residents import Residents
from .uses import AdapterUse


class RequestSetting:
    """Of a request whose adapters stay attached.

    Args:
        adapters: at their scales; everything else is at 0.
        held: what `Residents.bringing` yielded.
    """

    def __init__(
        self,
        residents: Residents,
        bank: AdapterBank,
        adapters: Sequence[AdapterUse] = (),
        combine: str | None = None,
        held: Mapping[AdapterUse, str] | None = None,
    ) -> None:
        self._residents, self._bank = residents, bank
        self._adapters, self._combine = adapters, combine
        self._held = {} if held is None else held
        self._fused = self._needed = False

    def enter(self) -> None:
        """Set it. Another request may have had its adapters set meanwhile."""
        self._residents.resume(self._held)
        self._residents.set(self._adapters, self._combine)
        if self._fused:
            self.fuse(needed=self._needed)

    def leave(self) -> None:
        """The weights as they are without adapters."""
        if self._fused:
            self._bank.restore()

    def fuse(self, *, needed: bool) -> None:
        """Fuse the adapters now, and whenever the setting is entered.

        Args:
            needed: where memory is too small for a second copy of the weights, False goes on without.
        """
        self._needed, short = needed, False
        try:
            self._bank.fuse()
        except (RuntimeError, MemoryError, OSError) as error:
            if needed or not is_out_of_memory(error):
                raise
            short = True
        self._fused = not short
        if short:  # outside of `except`, which holds on to what filled the memory
            release_memory(self._residents.device)
            note("There is too little memory to fuse the adapters: they are applied beside the weights.")

    def unfuse(self) -> bool:
        """From now on beside the weights, which needs less memory; False where it is so already."""
        was, self._fused = self._fused, False
        if was:
            self._bank.restore()
            note("There is too little memory for fused adapters: they are applied beside the weights.")
        return was
