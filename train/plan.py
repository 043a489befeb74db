"""The autopilot: every number of a run, decided before it starts and shown before anything slow happens."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError

from .config import TrainConfig
from .costs import megabytes, minutes, seconds_per_picture
from .dataset import Dataset
from .disk import check_disk, disk_use
from .draw import STEPS
from .pictures import size_notes
from .prompts import class_prompts, sample_prompts
from .room import find_room
from .targets import find_targets


@dataclass(frozen=True)
class Recipe:
    """What suits bases of one size, for one kind.

    Attributes:
        seen: how often each picture is seen over the whole run.
        fewest, most: pictures seen in the whole run.
    """

    rank: int
    targets: tuple[str, ...]
    lr: float
    text_encoder_lr: float
    seen: int
    fewest: int
    most: int


SMALL = {
    # The decoder alone learns a style as well as the whole UNet does, a quarter sooner.
    "style": Recipe(16, ("up_blocks.*",), 9e-4, 0.0, seen=100, fewest=1000, most=6000),
    # Not far: five pictures of one thing soon teach that it fills the picture, whatever the prompt says.
    "subject": Recipe(16, ("all",), 5e-4, 0.0, seen=100, fewest=600, most=6000),
}
LARGE = dict.fromkeys(SMALL, Recipe(32, ("attention+ff",), 1e-4, 5e-5, seen=100, fewest=800, most=8000))
# Three times the layers: half the rank, on attention alone, makes a file of the same size. Its text encoders
# are best left alone, as kohya's guide advises too.
LARGE_XL = dict.fromkeys(SMALL, Recipe(16, ("attention",), 1e-4, 0.0, seen=100, fewest=800, most=8000))
SMALL_PARAMETERS = 150_000_000


@dataclass(frozen=True)
class Plan:
    """A run, decided.

    Attributes:
        pictures: how many are used; example: the prompt of the first.
        dropped: (name, reason) of files that are not used; notes: (name, what was done) of those that are,
            and ("", what to know) of the folder as a whole.
        why: how `kind` was decided.
        patterns: the targets as asked for; targets: the module paths they name, per component.
        lr, text_encoder_lr: of AdamW; a text encoder at 0 is left alone, and its embeddings are cached.
        prior_prompts: what the class pictures show; prior_images of them in all.
        warmup: steps until the learning rate is reached; then cosine, down to a tenth.
        trainable: how many numbers the adapter has.
        disk: what the run writes, in words; keep_latents: whether there is room to keep latents.
        replaces: whether a file is at `out` already, which the new one takes the place of.
        memory: how the base is kept, a name of `MODES`; memory_why: what was chosen from, in words.
        memory_bytes: estimated; free: bytes that there are.
        seconds: estimated from sizes alone until the first steps are timed.
    """

    name: str
    out: Path
    base: str
    family: str
    device: str
    kind: str
    why: str = field(compare=False)
    trigger: str
    class_name: str
    pictures: int
    example: str
    dropped: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]
    background: str
    steps: int
    batch_size: int
    resolution: int
    rank: int
    alpha: float
    rslora: bool
    dropout: float
    patterns: tuple[str, ...]
    targets: Mapping[str, tuple[str, ...]]
    trainable: int
    lr: float
    text_encoder_lr: float
    warmup: int
    weight_decay: float
    min_snr_gamma: float
    clip_skip: int
    prior: float
    prior_images: int
    prior_prompts: tuple[str, ...]
    prior_folder: Path | None
    sample_prompts: tuple[str, ...]
    sheet: bool
    sidecars: bool
    sample_every: int
    save_every: int
    seed: int
    precision: str
    gradient_checkpointing: bool
    memory: str
    memory_bytes: int
    seconds: float
    memory_why: str = field(default="", compare=False)
    free: int = field(default=0, compare=False)
    replaces: bool = field(default=False, compare=False)
    disk: str = field(default="", compare=False)
    keep_latents: bool = field(default=True, compare=False)

    @property
    def file_bytes(self) -> int:
        """Size of the adapter's file, in float16."""
        return 2 * self.trainable

    def describe(self) -> list[tuple[str, str]]:
        """The plan as (what, value) rows of plain text."""
        modules = ", ".join(f"{len(paths)} in the {c.replace('_', ' ')}" for c, paths in self.targets.items())
        rows = [
            (
                "pictures",
                f"{self.pictures} used" + (f", {len(self.dropped)} dropped" if self.dropped else ""),
            ),
            *(("  dropped", text) for text in _grouped(self.dropped)),
            *(("  note", text) for text in _grouped(self.notes)),
            ("kind", f"{self.kind} ({self.why})"),
            (
                "trigger",
                f'"{self.trigger}"' + (f', a kind of "{self.class_name}"' if self.class_name else ""),
            ),
            ("prompts", f'such as "{self.example}"'),
            ("base", f"{self.base} ({self.family}), {self.resolution} x {self.resolution} pixels"),
            ("steps", f"{self.steps:,}, {self.batch_size} picture{'s' * (self.batch_size != 1)} each"),
            ("adapter", f"rank {self.rank}, alpha {self.alpha:g}, {modules}"),
            (
                "file",
                f"{self.out} ({megabytes(self.file_bytes)}"
                f"{'; replaces the one that is there' * self.replaces})",
            ),
            ("learning rate", f"{self.lr:g}, cosine after {self.warmup} steps"),
        ]
        if self.text_encoder_lr:
            rows.append(("  text encoder", f"{self.text_encoder_lr:g}"))
        if self.prior:
            what = ", ".join(f'"{prompt}"' for prompt in self.prior_prompts[:3])
            more = " ..." if len(self.prior_prompts) > 3 else ""
            rows.append(("prior", f"weight {self.prior:g}, {self.prior_images} pictures of {what}{more}"))
        saving = ", gradient checkpointing" if self.gradient_checkpointing else ""
        over = self.memory_bytes > self.free > 0
        short = f"; more than the {megabytes(self.free)} there are" if over else ""
        kept = f"{self.memory}, about {megabytes(self.memory_bytes)}{short}"
        return [
            *rows,
            ("precision", f"{self.precision} on {self.device}{saving}, the adapter in float32"),
            ("memory", self.memory_why or kept),
            *([("disk", self.disk)] if self.disk else []),
            ("time", f"about {minutes(self.seconds)}; measured once it runs"),
        ]

    def resolved(self, config: TrainConfig) -> TrainConfig:
        """`config` with everything that was left open set as in this plan; it makes this same plan again."""
        known = {f.name for f in fields(TrainConfig)} & {f.name for f in fields(self)} - {
            "base",
            "prior_folder",
        }
        values = {name: getattr(self, name) for name in known}
        values |= {
            "out": str(self.out.absolute()),
            "targets": self.patterns,
            "class_name": self.class_name or None,
            "prior_images": self.prior_images or None,
        }
        return replace(config, **values)


def make_plan(config: TrainConfig, base: StableDiffusion, dataset: Dataset, *, resume: bool = False) -> Plan:
    """Decide every number of a run.

    Args:
        resume: whether it goes on from a checkpoint, which is on the disk by now.

    Raises:
        TargetError: a target names no module, or none in which anything can be learnt.
        BaseError: more layers to leave out (`clip_skip`) than the text encoder has.
        ConfigError: `prior` without anything to draw, both learning rates 0, no memory mode that fits, or too
            little disk space.
    """
    unet = base.components["unet"]
    size = sum(p.numel() for p in unet.parameters())
    small = size < SMALL_PARAMETERS
    large = LARGE_XL if base.family == "sdxl" else LARGE
    recipe = (SMALL if small else large)[dataset.kind]
    quick = small or base.device.type == "cuda"
    resolution = config.resolution or base.resolution
    rank = config.rank or recipe.rank
    text_encoder_lr = recipe.text_encoder_lr if config.text_encoder_lr is None else config.text_encoder_lr
    patterns = config.targets or recipe.targets
    lr = recipe.lr if config.lr is None else config.lr
    base.check_skip(config.clip_skip)
    targets, left_out = find_targets(
        base,
        patterns,
        unet=lr > 0,
        text_encoder=text_encoder_lr > 0,
        clip_skip=config.clip_skip,
        resolution=resolution,
    )
    trainable = _trainable(base, targets, rank)
    prompts, prior_images = _prior(config, dataset)
    room = find_room(config, base, small=small, trainable=trainable, trained=targets, resolution=resolution)
    batch = room.batch_size
    steps = config.steps or _steps(recipe, len(dataset.used), batch)
    in_batch = batch * (2 if config.prior else 1)
    shown = sample_prompts(config, dataset, 6 if quick else 2)
    # in training steps: class pictures and the sheet's, each step two passes without gradients
    drawn = (prior_images + 2 * len(shown) * config.sheet) * STEPS * 2 / 3
    pixels = (resolution // base.pixels_per_latent) ** 2
    name, out = _name_and_file(config, dataset)
    plan = Plan(
        name=name,
        out=out,
        base=base.name,
        family=base.family,
        device=str(base.device),
        kind=dataset.kind,
        why=dataset.why,
        trigger=dataset.trigger,
        class_name=dataset.class_name,
        pictures=len(dataset.used),
        example=dataset.used[0].prompt,
        dropped=tuple((file.name, file.reason) for file in dataset.dropped),
        notes=(*(("", note) for note in left_out), *_notes(dataset, resolution)),
        background=config.background,
        steps=steps,
        batch_size=batch,
        resolution=resolution,
        rank=rank,
        alpha=float(rank if config.alpha is None else config.alpha),
        rslora=config.rslora,
        dropout=config.dropout,
        patterns=patterns,
        targets=targets,
        trainable=trainable,
        lr=lr,
        text_encoder_lr=text_encoder_lr,
        warmup=max(1, min(20, steps // 10)),
        weight_decay=config.weight_decay,
        min_snr_gamma=config.min_snr_gamma,
        clip_skip=config.clip_skip,
        prior=config.prior,
        prior_images=prior_images,
        prior_prompts=prompts,
        prior_folder=None if config.prior_folder is None else Path(config.prior_folder),
        sample_prompts=shown,
        sample_every=(max(1, steps // 3) if quick else 0)
        if config.sample_every is None
        else config.sample_every,
        sheet=config.sheet,
        sidecars=config.sidecars,
        save_every=config.save_every or max(50, steps // 4),
        seed=config.seed,
        precision=str(base.dtype).removeprefix("torch."),
        gradient_checkpointing=room.checkpointing,
        memory=room.mode,
        memory_bytes=room.bytes,
        memory_why=room.why,
        seconds=(steps * in_batch + drawn) * seconds_per_picture(size, pixels, base.device, base.dtype),
        free=room.free,
        replaces=os.path.exists(out),
    )
    use = disk_use(plan, base, resume=resume)
    keep = check_disk(use)
    return replace(plan, disk=use.describe(latents=keep), keep_latents=keep)


def _notes(dataset: Dataset, resolution: int) -> tuple[tuple[str, str], ...]:
    """What a person should know: of the folder, then of each picture and of what its size comes to."""
    return (
        *(("", note) for note in dataset.notes),
        *((s.name, note) for s in dataset.used for note in (*s.notes, *size_notes(s.size, resolution))),
    )


def _grouped(said: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each thing that was said, with the names it was said of: `a.png, b.png and 10 more: ...`."""
    names: dict[str, list[str]] = {}
    for name, what in said:
        names.setdefault(what, []).append(name)
    return [f"{_listed(of)}: {what}" if any(of) else what for what, of in names.items()]


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _name_and_file(config: TrainConfig, dataset: Dataset) -> tuple[str, Path]:
    out = None if config.out is None else Path(config.out)
    name = config.name or (_file_name(dataset.trigger) if out is None else out.stem)
    return name, out or Path("adapters") / f"{name}.safetensors"


def _file_name(trigger: str) -> str:
    """The trigger as part of a path on every system: `<blob>` is blob, `my/cat` is my-cat."""
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in trigger).strip("-")
    return kept or "adapter"


def _steps(recipe: Recipe, images: int, batch: int) -> int:
    seen = min(max(recipe.seen * images, recipe.fewest), recipe.most)
    return max(10, round(seen / batch / 10) * 10)


def _trainable(base: StableDiffusion, targets: Mapping[str, tuple[str, ...]], rank: int) -> int:
    shapes = base.module_shapes()
    weights = [shapes[component][path] for component, paths in targets.items() for path in paths]
    return sum(rank * (shape[0] + math.prod(shape[1:])) for shape in weights)


def _prior(config: TrainConfig, dataset: Dataset) -> tuple[tuple[str, ...], int]:
    """What class pictures show, and how many there are: four per own picture, 24 to 100."""
    if not config.prior:
        return (), 0
    prompts = class_prompts(dataset)
    if not prompts:
        raise ConfigError(
            f"prior = {config.prior:g} needs to know what the pictures show; neither a class nor captions "
            'say it. Name one, such as --class "face", or leave --prior out.'
        )
    return prompts, config.prior_images or min(100, max(24, 4 * len(dataset.used)))
