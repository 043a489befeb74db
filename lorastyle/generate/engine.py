"""Requests in, pictures out: one base, one bank over it, one batch at a time."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import Tensor

from lorastyle.bank import AdapterBank, AttentionMaps, attach
from lorastyle.bases import StableDiffusion
from lorastyle.errors import ConfigError
from lorastyle.notes import note

from .canvas import load_canvas, picture_size, strength_for
from .claims import with_claims_read
from .conditioning import Script
from .confinement import Confinement
from .drawing import Drawing
from .hires import hires_pass
from .levels import to_image
from .modes import check_mode, fuses
from .preview import OnPreview, Previews
from .readings import Readings
from .request import HIRES_STRENGTH, GenerateRequest
from .residents import Residents
from .schedulers import name_of
from .sketchers import Sketcher, make_sketcher
from .together import together
from .watch import OnStep, Stopped, Watch, check

_LCM = re.compile(r"(?i)(?<![a-z])lcm(?![a-z])")
LOOK_EVERY = 0.05  # seconds between looks at whether a request that waits was stopped


@dataclass(frozen=True)
class Picture:
    """A picture, and the request that draws just this one: its own seed, number 1, nothing left open."""

    image: Image.Image
    request: GenerateRequest


@dataclass(frozen=True, eq=False)
class _Job:
    """One picture of a batch: its request's number, the request that draws just it, words and scales."""

    number: int
    request: GenerateRequest
    words: Script
    scales: Mapping[str, float | Mapping[str, float]]


class Engine:
    """Draws requests with one loaded base. Adapters stay attached for the next request.

    Args:
        base: what `load_base` returned.
        bank: a bank that is attached to `base` already, such as the one in training; its own adapters stay as
            they are, and act on every request. None attaches a new one.
        batch_size: how many pictures of a request are drawn at once.
        keep_bytes: how much the adapters of requests may fill while they stay attached, by the sizes of
            their files. Those in use stay whatever they fill.
        preview_decoder: what makes previews: a tiny autoencoder's folder or Hub id, or "linear"; see
            `make_sketcher`.
        mode: "bank" draws with adapters beside the weights, "fused" adds them to the weights for each
            request, and "auto" does so where it is quicker and the same picture; see `modes`.

    Threads may share an engine: requests are drawn one after another.

    Raises:
        AdapterError: `bank` is None and `base` has a bank attached already.
        ConfigError: an unknown mode, or a number out of range.
    """

    def __init__(
        self,
        base: StableDiffusion,
        *,
        bank: AdapterBank | None = None,
        batch_size: int = 4,
        keep_bytes: int = 1_000_000_000,
        preview_decoder: str | None = None,
        mode: str = "auto",
    ) -> None:
        if batch_size < 1 or keep_bytes < 0:
            raise ConfigError(
                f"batch_size is {batch_size} and keep_bytes {keep_bytes}; at least 1 and 0 are needed."
            )
        self.base = base
        self.bank = attach(base.components) if bank is None else bank
        self.batch_size = batch_size
        self.mode = check_mode(mode)
        self._residents = Residents(self.bank, base, keep_bytes)
        self._readings = Readings(base, self.bank)
        self._preview_decoder = preview_decoder
        self._sketch: Sketcher | None = None
        self._lock = threading.Lock()
        self._drawing: int | None = None  # the thread that holds the lock

    def generate(
        self,
        request: GenerateRequest,
        *,
        on_step: OnStep | None = None,
        on_picture: Callable[[Picture], None] | None = None,
        on_preview: OnPreview | None = None,
        stop: threading.Event | None = None,
    ) -> list[Picture]:
        """Draw `request.number` pictures, or those that were finished when `stop` was set.

        Picture i starts from noise of a CPU generator seeded `seed + i`. It is the same whatever else is
        drawn, up to the order in which sums of floating-point numbers are taken in a larger batch.

        Args:
            request: what to draw.
            on_step: called as (steps done, steps in all) over the whole request.
            on_picture: called with each picture as soon as its batch is done.
            on_preview: called now and then with what the pictures of the running batch look like so far, in
                their order, 512 pixels a side or less. It changes nothing of what is drawn.
            stop: once set, by whatever thread, drawing ends within a step, and a request that waits for its
                turn waits no longer. A batch that is not finished is dropped; a decoded one is returned.

        Raises:
            ConfigError: the request names another base than this engine's, or more steps than its scheduler
                has; or a callback draws with the engine that called it.
            AdapterError: an adapter is not found, damaged, or made for another family.
            BaseError: numbers that are not finite.
        """
        if self._drawing == threading.get_ident():
            raise ConfigError(
                "A callback cannot draw with the engine that called it. Draw when generate() has returned."
            )
        pictures: list[Picture] = []
        with suppress(Stopped), self._turn(stop), torch.no_grad():
            request = self._complete(request)
            previews = None if on_preview is None else self._previews(on_preview)
            request = replace(request, adapters=self._residents.use(request.adapters, request.combine))
            for picture in self._draw(request, Watch(on_step, previews, stop)):
                pictures.append(picture)
                if on_picture is not None:
                    on_picture(picture)
        return pictures

    def generate_many(
        self,
        requests: Sequence[GenerateRequest],
        *,
        on_step: OnStep | None = None,
        on_picture: Callable[[int, Picture], None] | None = None,
        stop: threading.Event | None = None,
    ) -> list[list[Picture]]:
        """Draw several requests, those that go together in one batch, each with its own adapters.

        Together go requests of one size, scheduler, number of steps and guidance, whose adapters are low rank
        and the same at every step and block; the others are drawn one after another. A picture is the same as
        `generate` draws, up to the order in which sums of floating-point numbers are taken. Where memory does
        not suffice for a batch, halves of it are drawn.

        Args:
            requests: any requests of this engine's base.
            on_step: called as (steps done, steps in all) over all of them.
            on_picture: called with the number of the request, from 0, and a picture, as soon as it is done.
            stop: as in `generate`.

        Returns:
            The pictures of each request, in the order of the requests.

        Raises:
            ConfigError, AdapterError, BaseError: as `generate`, of any of them, before anything is drawn.
        """
        if self._drawing == threading.get_ident():
            raise ConfigError(
                "A callback cannot draw with the engine that called it. Draw when generate() has returned."
            )
        done: list[list[Picture]] = [[] for _ in requests]
        with suppress(Stopped), self._turn(stop), torch.no_grad():
            whole = [self._complete(request) for request in requests]
            brought = self._residents.bring([request.adapters for request in whole])
            whole = [replace(r, adapters=uses) for r, uses in zip(whole, brought, strict=True)]
            groups = together(whole, self._residents.low_rank)
            if self.mode == "fused":  # one set of weights cannot be every request's
                groups = [[number] for number in range(len(whole))]
            batches = [-(-sum(whole[i].number for i in group) // self.batch_size) for group in groups]
            for i, group in enumerate(groups):
                others = {"before": sum(batches[:i]), "beside": sum(batches) - batches[i]}
                watch = Watch(on_step, None, stop, **others)
                for number, picture in self._draw_group(whole, group, watch):
                    done[number].append(picture)
                    if on_picture is not None:
                        on_picture(number, picture)
        return done

    def _draw_group(
        self, requests: Sequence[GenerateRequest], group: Sequence[int], watch: Watch
    ) -> Iterator[tuple[int, Picture]]:
        """The pictures of requests that go together, with the numbers of their requests."""
        if len(group) == 1:
            self._residents.set(requests[group[0]].adapters, requests[group[0]].combine)
            for picture in self._draw(requests[group[0]], watch):
                yield group[0], picture
            return
        jobs: list[_Job] = []
        for number in group:
            request = requests[number]
            self._residents.set(request.adapters)
            words = self._readings.read(request, self._residents.brought)
            scales = self._residents.scales(request.adapters)
            seed = cast(int, request.seed)
            jobs += [
                _Job(number, replace(request, seed=s, number=1), words, scales)
                for s in range(seed, seed + request.number)
            ]
        self._residents.set(())
        for index, batch in enumerate(batches := _batches(jobs, self.batch_size)):
            for job, picture in self._draw_jobs(batch, watch.batch(index, len(batches))):
                yield job.number, picture

    def _draw_jobs(self, jobs: Sequence[_Job], watch: Watch) -> Iterator[tuple[_Job, Picture]]:
        """One batch, each sample with its own scales; where memory does not suffice, its halves."""
        request = jobs[0].request
        guided = cast(float, request.guidance) > 1
        words = Script.cat([job.words for job in jobs])
        try:
            with self.bank.rows([job.scales for job in jobs] * (2 if guided else 1)):
                seeds = [cast(int, job.request.seed) for job in jobs]
                latents = self._denoise(Drawing(self.base, request, words, seeds), watch)
            decoded = self.base.decode(latents)
        except torch.OutOfMemoryError:
            if len(jobs) == 1:
                raise
            decoded = None
        if decoded is None:  # outside of `except`, which holds on to what filled the memory
            for half in (jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :]):
                yield from self._draw_jobs(half, watch)
            return
        for job, pixels in zip(jobs, decoded, strict=True):
            yield job, Picture(to_image(pixels), job.request)

    @contextmanager
    def _turn(self, stop: threading.Event | None) -> Generator[None]:
        """Hold the engine, as soon as no other thread does. Raises Stopped where `stop` is set before."""
        while not self._lock.acquire(timeout=-1 if stop is None else LOOK_EVERY):
            check(stop)
        try:
            check(stop)
            self._drawing = threading.get_ident()
            yield
        finally:
            self._drawing = None
            self._lock.release()

    def _previews(self, on_preview: OnPreview) -> Previews:
        if self._sketch is None:  # made once: it takes a moment
            self._sketch = make_sketcher(self.base, self._preview_decoder)
        return Previews(self._sketch, on_preview, self.base.pixels_per_latent)

    def _complete(self, request: GenerateRequest) -> GenerateRequest:
        """The same request with nothing left open."""
        if request.base not in (None, self.base.name):
            raise ConfigError(
                f'This engine draws with the base "{self.base.name}", the request names "{request.base}". '
                f'Load that one: Engine(load_base("{request.base}")).'
            )
        request = with_claims_read(request)
        width, height = picture_size(request, self.base.resolution)
        own_scheduler, own_guidance = name_of(self.base.pipe.scheduler), self.base.guidance
        if distilled := _distilled(request):
            own_scheduler = "lcm"
            if request.scheduler in (None, "lcm"):
                own_guidance = 1.0
            if request.scheduler is None and request.steps > 12:
                note(
                    f'The adapter "{distilled}" is made for few steps: the scheduler is lcm, and 4 to 8 '
                    f"steps are enough. This request asks for {request.steps}.",
                    stacklevel=3,
                )
        return replace(
            request,
            seed=secrets.randbelow(2**32) if request.seed is None else request.seed,
            guidance=own_guidance if request.guidance is None else request.guidance,
            guidance_rescale=self.base.guidance_rescale
            if request.guidance_rescale is None
            else request.guidance_rescale,
            width=width,
            height=height,
            strength=strength_for(request, self.base),
            hires_strength=request.hires_strength or (None if request.hires == 1 else HIRES_STRENGTH),
            scheduler=request.scheduler or own_scheduler,
            base=self.base.name,
            base_hash=self._base_hash(request.base_hash),
        )

    def _base_hash(self, earlier: str | None) -> str | None:
        digest = self.base.file and self.base.file.hash
        if None not in (earlier, digest) and earlier != digest:
            note(
                f'The base "{self.base.name}" is the file {digest}, the request was made with {earlier}: the '
                "picture will differ.",
                stacklevel=4,
            )
        return digest

    def _draw(self, request: GenerateRequest, watch: Watch) -> Iterator[Picture]:
        size = cast(int, request.height), cast(int, request.width)
        uses, fields = self._residents.confined(request.adapters, size)
        claims = self._residents.claimed(request)
        voices = self._residents.alone(request.adapters) if request.combine == "composite" else {}
        words, *apart = self._readings.apart(request, self._residents.brought, [*fields, *claims, *voices])
        request = replace(request, adapters=uses)
        if canvas := load_canvas(request):
            request = replace(request, init_hash=canvas.init_hash, mask_hash=canvas.mask_hash)
        start = canvas and canvas.start(self.base, cast(float, request.strength))
        hires = hires_pass(request, self.base, canvas)
        sides = words.first.sides(cast(float, request.guidance))
        seeds = range(cast(int, request.seed), cast(int, request.seed) + request.number)
        most = max(1, self.batch_size // max(1, len(voices)) // len(words.first.wanted))
        most = 1 if claims else most
        batches = [seeds[i : i + most] for i in range(0, len(seeds), most)]
        with self.bank.fused() if fuses(self.mode, self.base, self.bank, request) else nullcontext():
            for index, batch in enumerate(batches):
                one = watch.batch(index, len(batches))
                each = [reading.repeat(len(batch)) for reading in apart]
                drawing = Drawing(
                    self.base, request, words.repeat(len(batch)), batch, start, hires, apart=each
                )
                if voices:
                    rows = [scales for scales in voices.values() for _ in batch]
                    drawing = replace(drawing, words=Script.cat(each), voices=len(voices), apart=())
                    with self.bank.rows(rows * sides):
                        latents = self._denoise(drawing, one)
                else:
                    parted = bool(fields or claims)
                    confinement = Confinement(self.bank, fields, drawing.readings, claims) if parted else None
                    latents = self._denoise(drawing, one, confinement)
                for seed, pixels in zip(batch, self.base.decode(latents), strict=True):
                    image = to_image(pixels)
                    if canvas is not None:
                        image = canvas.keep_outside(image)
                    yield Picture(image, replace(request, seed=seed, number=1))

    def _denoise(self, drawing: Drawing, watch: Watch, confinement: Confinement | None = None) -> Tensor:
        """Latents (b, c, h/8, w/8) of the pictures, as the UNet knows them.

        Where adapters are confined to parts of the picture, it is drawn without them first, and that stays
        as it is outside of these parts.
        """
        with self._residents.stepping() as step:
            if confinement is None:
                return drawing.run(step, partial(watch.look, 0, 0))[-1][-1]
            if confinement.everywhere:
                return drawing.run(step, partial(watch.look, 0, 0), within=confinement.within)[-1][-1]
            unseen = replace(watch, previews=None)
            maps = AttentionMaps(confinement.claims, drawing.grid)
            look, watching = (
                partial(unseen.look, 0, drawing.steps),
                partial(maps.watching, self.base.pipe.unet),
            )
            with confinement.lifted():
                plain = drawing.run(step, look, within=watching, record=True)
            confinement = confinement.claimed(maps.maps)
            look = partial(watch.look, drawing.steps, 0)
            return drawing.run(step, look, within=confinement.within, outside=plain)[-1][-1]


def _distilled(request: GenerateRequest) -> str | None:
    """The adapter in use that is named as one for few steps (Luo et al. 2023, arXiv:2311.05556)."""
    uses = (use for use in request.adapters if use.scale_on("unet") > 0 and _LCM.search(Path(use.name).stem))
    return next((use.name for use in uses), None)


def _batches(jobs: Sequence[_Job], most: int) -> list[list[_Job]]:
    """At most so many in one, with as many chunks of words each: filling up a prompt would change it."""
    by_words: dict[int, list[_Job]] = {}
    for job in jobs:
        by_words.setdefault(job.words.length, []).append(job)
    return [same[i : i + most] for same in by_words.values() for i in range(0, len(same), most)]
