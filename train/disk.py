"""What a run writes, and whether the disk has room for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorastyle.adapters import free_space, lack_of_space, megabytes
from lorastyle.bases import StableDiffusion, cache_folder
from lorastyle.errors import ConfigError

from .run import RunFolder

if TYPE_CHECKING:
    from .plan import Plan

_PNG = 2  # bytes for a pixel of a picture, about
_HEADER = 150  # bytes for a tensor in the header of a safetensors file, about
_STATES = 3  # tensors of a checkpoint for each of the adapter's: itself and AdamW's two moments
_METADATA = 50_000  # bytes of an adapter's metadata with its thumbnail, about
_PAPER = 150_000  # bytes of a sheet besides its pictures, about
_LINE = 80  # bytes for a step in log.jsonl
_JOURNAL = 600_000  # bytes of events.jsonl, at most
_SMALL = 50_000  # bytes that are not worth a word
_FOUR = 4  # pictures of a sample strip, at most; bytes of a float32


@dataclass(frozen=True)
class DiskUse:
    """Bytes that a run writes at most.

    Attributes:
        beside: {what: bytes} beside the adapter, at `out`.
        out, latents_at, class_at: where they go.
        latents: which are kept for the next time, where there is room.
        class_pictures: which the run needs.
        there: of files that are there by now and count in `beside`, or are removed.
    """

    out: Path
    beside: Mapping[str, int]
    latents: int
    latents_at: Path
    class_pictures: int
    class_at: Path
    there: int = 0

    @property
    def total(self) -> int:
        """Of all of it."""
        return sum(self.beside.values()) + self.latents + self.class_pictures

    @property
    def listed(self) -> str:
        """ "checkpoints 61.0 MB, adapter 10.2 MB"; what is small is left out."""
        rows = {**self.beside, "latents": self.latents, "class pictures": self.class_pictures}
        return ", ".join(f"{what} {megabytes(size)}" for what, size in rows.items() if size >= _SMALL)

    def describe(self, *, latents: bool) -> str:
        """In words, with how much is free. `latents`: whether they are kept."""
        free = free_space(self.out)
        of = "" if free is None else f" of the {megabytes(free)} free"
        less = "" if latents else "; no room to keep latents for the next time"
        return f"at most about {megabytes(self.total)}{of}: {self.listed}{less}"


def disk_use(plan: Plan, base: StableDiffusion, *, resume: bool = False) -> DiskUse:
    """Of a planned run.

    A new checkpoint is whole before the old one goes, and the adapter is written anew once its sheet was
    drawn; so there are two of the one for a while, or of the other.
    """
    tensors = 2 * sum(map(len, plan.targets.values()))
    checkpoint = _STATES * (4 * plan.trainable + _HEADER * tensors)
    adapter = plan.file_bytes + _HEADER * tensors + _METADATA
    picture = plan.resolution**2 * _PNG
    drawn = len(plan.sample_prompts)
    samples = (plan.steps - 1) // plan.sample_every if plan.sample_every else 0
    latent = 2 * base.latent_channels * (plan.resolution // base.pixels_per_latent) ** 2 * _FOUR + 1_000
    run = RunFolder(plan.out)
    return DiskUse(
        plan.out,
        {
            "checkpoints": 2 * checkpoint if plan.steps > plan.save_every else checkpoint + adapter,
            "adapter": adapter,
            "samples": samples * min(_FOUR, drawn) * picture,
            "sheet": (2 * drawn * plan.sheet + plan.sidecars) * picture + _PAPER * plan.sheet,
            "log": _LINE * plan.steps + _JOURNAL,
        },
        latent * (plan.pictures + plan.prior_images),
        cache_folder() / "latents",
        plan.prior_images * picture,
        plan.prior_folder or cache_folder() / "class",
        _size(run.checkpoint) if resume else _size(run.kept),
    )


def check_disk(use: DiskUse) -> bool:
    """Is there room? False where there is, but not for latents, which are then made anew the next time.

    Raises:
        ConfigError: there is too little for the run; with how much it needs and how much is free.
    """
    run = {use.out: max(0, sum(use.beside.values()) - use.there), use.class_at: use.class_pictures}
    if lack_of_space({**run, use.latents_at: use.latents}) is None:
        return True
    if (lack := lack_of_space(run)) is None:
        return False
    place, flag = (use.out.parent, "--out") if lack.folder == use.out else (use.class_at, "--prior-folder")
    raise ConfigError(
        f"There is too little disk space at {place}: {lack} ({use.listed}). Free some, choose another "
        f"{flag}, or write less: a smaller --rank, a larger --save-every, or --sample-every 0."
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # not there
        return 0
