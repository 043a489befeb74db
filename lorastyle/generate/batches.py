"""Images in batches that fit: where memory runs out, half as many at once, and so from then on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

from lorastyle.bases import is_out_of_memory, release_memory

from .watch import Watch

T = TypeVar("T")
R = TypeVar("R")


class BatchSizes:
    """How many images fit at once, as far as batches that did not fit have shown."""

    def __init__(self) -> None:
        self._fit: dict[int, int] = {}  # {load of an image: so many may fit, twice as many did not}

    def at_most(self, load: int, most: int) -> int:
        """At most `most`, and fewer where as many of this load, or of a smaller one, did not fit. At least 1.

        Args:
            load: what an image asks of the memory: latent pixels, times the answers of the UNet for each.
        """
        return max(1, min([most, *(count for other, count in list(self._fit.items()) if other <= load)]))

    def did_not_fit(self, load: int, images: int) -> None:
        """Remember it: half as many are tried from now on."""
        self._fit[load] = min(max(1, images // 2), self._fit.get(load, images))


def in_batches(
    items: Sequence[T],
    most: int,
    sizes: BatchSizes,
    load: int,
    watch: Watch,
    draw: Callable[[Sequence[T], Watch], list[R]],
    *,
    turn: Callable[[], AbstractContextManager[None]],
    device: torch.device,
    make_room: Callable[[], bool],
    too_large: Callable[[], Exception],
) -> Iterator[R]:
    """What `draw` makes of the items, in their order. The next batch is drawn when the last one was taken.

    Args:
        most: how many at once, where memory allows.
        load: of each of them; see `BatchSizes`.
        watch: counts the steps of all batches. Steps of a batch that did not fit stay counted: they took
            their time.
        draw: draws a batch.
        turn: entered for each batch, and left before its results are handed out.
        make_room: called where a single item does not fit; whether anything was given up for it.
        too_large: the error to raise where nothing was.
    """
    done = 0
    while done < len(items):
        count = sizes.at_most(load, most)
        batch = items[done : done + count]
        error: Exception | None = None
        with turn():
            one = watch.batch(-(-(len(items) - done) // count))
            try:
                results = draw(batch, one)
            except (RuntimeError, MemoryError, OSError) as raised:
                if not is_out_of_memory(raised):
                    raise
                # its frames and those of what it followed on hold on to what filled the memory
                error = raised.with_traceback(None)
                error.__context__ = None
                results = []
            if error is not None:  # outside of `except`, for the same reason
                release_memory(device)
                one.broke_off()
                if len(batch) == 1 and not make_room():
                    raise too_large() from error
        if error is not None:
            if len(batch) > 1:
                sizes.did_not_fit(load, len(batch))
            continue
        done += len(batch)
        one.finished()
        yield from results
