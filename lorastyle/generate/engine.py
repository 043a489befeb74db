"""Requests in, pictures out: one base, one bank over it, one batch at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from lorastyle.bank import AdapterBank, AttentionMaps, attach
from lorastyle.bases import IMAGES_AT_ONCE, StableDiffusion
from lorastyle.errors import ConfigError

from .batches import BatchSizes, in_batches
from .canvas import load_canvas
from .completing import complete
from .conditioning import Script
from .confinement import Confinement
from .drawing import Drawing
from .hires import hires_pass
from .jobs import Job, alike_in_length, jobs_of
from .levels import to_image
from .modes import check_mode, fuses
from .picture import Picture
from .preview import OnPreview, Previews
from .readings import Readings
from .request import GenerateRequest
from .residents import Residents
from .setting import RequestSetting
from .sketchers import Sketcher, make_sketcher
from .together import together
from .too_large import does_not_fit, telling_size
from .turns import Turns
from .uses import AdapterUse
from .watch import Meter, OnStep, Stopped, Watch

Held = Mapping[AdapterUse, str]
T = TypeVar("T")
R = TypeVar("R")


class Engine:
    """Draws requests with one loaded base. Adapters stay attached for the next request.

    Args:
        base: what `load_base` returned.
        bank: a bank that is attached to `base` already, such as the one in training; its own adapters stay as
            they are, and act on every request. None attaches a new one.
        batch_size: how many pictures of a request are drawn at once; None is as many as `load_base` found to
            fit, up to 4. Where memory runs out, it is fewer.
        keep_bytes: how much the adapters of requests may fill while they stay attached, by the sizes of
            their files. Those in use stay whatever they fill.
        preview_decoder: what makes previews: a tiny autoencoder's folder or Hub id, or "linear"; see
            `make_sketcher`.
        mode: "bank" draws with adapters beside the weights, "fused" adds them to the weights for each
            request, and "auto" does so where it is quicker and the same picture; see `modes`.

    Threads may share an engine: requests take turns, batch by batch.

    Raises:
        AdapterError: `bank` is None and `base` has a bank attached already.
        ConfigError: an unknown mode, or a number out of range.
    """

    def __init__(
        self,
        base: StableDiffusion,
        *,
        bank: AdapterBank | None = None,
        batch_size: int | None = None,
        keep_bytes: int = 1_000_000_000,
        preview_decoder: str | None = None,
        mode: str = "auto",
    ) -> None:
        batch_size = batch_size if batch_size is not None else base.images_at_once or IMAGES_AT_ONCE
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
        self._turns = Turns()
        self._sizes = BatchSizes()

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
            on_picture: called with each picture as soon as its batch is done, in this thread; the engine is
                free meanwhile.
            on_preview: called now and then with what the pictures of the running batch look like so far, in
                order, 512 pixels a side or less. It changes nothing of what is drawn.
            stop: once set, by whatever thread, drawing ends within a step, and a request that waits for its
                turn waits no longer. A batch that is not finished is dropped; a decoded one is returned.

        Raises:
            ConfigError: another base than this engine's, too many steps for its scheduler, or a callback that
                draws with the engine that called it.
            AdapterError: an adapter is not found, damaged, or made for another family.
            BaseError: numbers that are not finite; or one picture alone does not fit the memory, which is a
                torch.OutOfMemoryError too.
        """
        pictures: list[Picture] = []
        with self._turns.request(), ExitStack() as over, suppress(Stopped), torch.no_grad():
            with self._turns.first(RequestSetting(self._residents, self.bank), stop):
                request = complete(request, self.base)
                previews = None if on_preview is None else self._previews(on_preview)
                with telling_size(self.base, request, self.mode):
                    (request,), held = over.enter_context(self._residents.bringing([request]))
            for picture in self._draw(request, held, Watch(on_step, previews, stop)):
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
        done: list[list[Picture]] = [[] for _ in requests]
        with self._turns.request(), ExitStack() as over, suppress(Stopped), torch.no_grad():
            with self._turns.first(RequestSetting(self._residents, self.bank), stop):
                whole = [complete(request, self.base) for request in requests]
                with telling_size(self.base, whole[0], self.mode) if whole else nullcontext():
                    whole, held = over.enter_context(self._residents.bringing(whole))
                groups = together(whole, self._residents.low_rank)
            if self.mode == "fused":  # one set of weights cannot be every request's
                groups = [[number] for number in range(len(whole))]
            batches = [-(-sum(whole[i].number for i in group) // self.batch_size) for group in groups]
            meter = Meter()
            for i, group in enumerate(groups):
                watch = Watch(on_step, None, stop, after=sum(batches[i + 1 :]), meter=meter)
                for number, picture in self._draw_group(whole, group, held, watch):
                    done[number].append(picture)
                    if on_picture is not None:
                        on_picture(number, picture)
        return done

    def _draw_group(
        self, requests: Sequence[GenerateRequest], group: Sequence[int], held: Held, watch: Watch
    ) -> Iterator[tuple[int, Picture]]:
        """The pictures of requests that go together, with the numbers of their requests."""
        first = requests[group[0]]
        if len(group) == 1:
            for picture in self._draw(first, held, watch):
                yield group[0], picture
            return
        setting = RequestSetting(self._residents, self.bank, held=held)
        turn = partial(self._turn, setting, first, watch.stop)
        jobs: list[Job] = []
        with turn():
            for number in group:
                self._residents.set(requests[number].adapters)
                jobs += jobs_of(
                    number, requests[number], self._readings.read(requests[number], self._residents.brought)
                )
            self._residents.set(())
        alike = alike_in_length(jobs)
        for i, some in enumerate(alike):
            after = sum(-(-len(others) // self.batch_size) for others in alike[i + 1 :])
            yield from self._in_batches(
                some, first, replace(watch, after=watch.after + after), self._draw_jobs, turn
            )

    def _draw_jobs(self, jobs: Sequence[Job], watch: Watch) -> list[tuple[int, Picture]]:
        """One batch, each sample with its own scales."""
        request = jobs[0].request
        guided = cast(float, request.guidance) > 1
        words = Script.cat([job.words for job in jobs])
        with self.bank.rows(
            [self._residents.scales(job.request.adapters) for job in jobs] * (2 if guided else 1)
        ):
            seeds = [cast(int, job.request.seed) for job in jobs]
            latents = self._denoise(Drawing(self.base, request, words, seeds), watch)
        decoded = self.base.decode(latents)
        return [
            (job.number, Picture(to_image(pixels), job.request))
            for job, pixels in zip(jobs, decoded, strict=True)
        ]

    @contextmanager
    def _turn(
        self, setting: RequestSetting, request: GenerateRequest, stop: threading.Event | None
    ) -> Generator[None]:
        """Hold the engine, set to a request, as soon as no other thread does."""
        with telling_size(self.base, request, self.mode), self._turns.turn(setting, stop):
            yield

    def _in_batches(
        self,
        items: Sequence[T],
        request: GenerateRequest,
        watch: Watch,
        draw: Callable[[Sequence[T], Watch], list[R]],
        turn: Callable[[], AbstractContextManager[None]],
        *,
        passes: int = 1,
        most: int | None = None,
        make_room: Callable[[], bool] = lambda: False,
    ) -> Iterator[R]:
        """What `draw` makes of items of this request's size, as many at once as fit.

        Args:
            passes: how often the UNet is asked about each, guidance left out.
        """
        asked = passes * (2 if cast(float, request.guidance) > 1 else 1)
        pixels = cast(int, request.width) * cast(int, request.height) * request.hires**2
        return in_batches(
            items,
            self.batch_size if most is None else most,
            self._sizes,
            round(pixels / self.base.pixels_per_latent**2) * asked,
            watch,
            draw,
            turn=turn,
            device=self.base.device,
            make_room=make_room,
            too_large=partial(does_not_fit, self.base, request, self.mode),
        )

    def _previews(self, on_preview: OnPreview) -> Previews:
        if self._sketch is None:  # made once: it takes a moment
            self._sketch = make_sketcher(self.base, self._preview_decoder)
        return Previews(self._sketch, on_preview, self.base.pixels_per_latent)

    def _draw(self, request: GenerateRequest, held: Held, watch: Watch) -> Iterator[Picture]:
        setting = RequestSetting(self._residents, self.bank, request.adapters, request.combine, held)
        turn = partial(self._turn, setting, request, watch.stop)
        recorded = request.adapters
        size = cast(int, request.height), cast(int, request.width)
        try:
            with turn():
                uses, fields = self._residents.confined(recorded, size)
                claims = self._residents.claimed(request)
                alone = self._residents.alone(recorded) if request.combine == "composite" else {}
                brought = self._residents.brought
                words, *apart = self._readings.apart(request, brought, [*fields, *claims, *alone])
                request = replace(request, adapters=uses)
                if canvas := load_canvas(request):
                    request = replace(request, init_hash=canvas.init_hash, mask_hash=canvas.mask_hash)
                start = canvas and canvas.start(self.base, cast(float, request.strength))
                hires = hires_pass(request, self.base, canvas)
                if fuses(self.mode, self.base, self.bank, request):
                    setting.fuse(needed=self.mode == "fused")
            sides, prompts = words.first.sides(cast(float, request.guidance)), len(words.first.wanted)

            def draw(batch: Sequence[int], one: Watch) -> list[Picture]:
                read, *each = (script.repeat(len(batch)) for script in (words, *apart))
                drawing = Drawing(self.base, request, read, batch, start, hires, apart=each)
                if alone:
                    voices = self._residents.alone(recorded)  # which names all that is attached by now
                    rows = [scales for scales in voices.values() for _ in batch]
                    drawing = replace(drawing, words=Script.cat(each), voices=len(voices), apart=())
                    with self.bank.rows(rows * sides):
                        latents = self._denoise(drawing, one)
                else:
                    parted = bool(fields or claims)
                    confinement = Confinement(self.bank, fields, drawing.readings, claims) if parted else None
                    latents = self._denoise(drawing, one, confinement)
                images = [to_image(pixels) for pixels in self.base.decode(latents)]
                if canvas is not None:
                    images = [canvas.keep_outside(image) for image in images]
                return [
                    Picture(image, replace(request, seed=seed, number=1))
                    for seed, image in zip(batch, images, strict=True)
                ]

            first = cast(int, request.seed)
            yield from self._in_batches(
                range(first, first + request.number),
                request,
                watch,
                draw,
                turn,
                passes=max(1, len(alone)) * (1 + len(fields) + len(claims)) * prompts,
                most=1 if claims else max(1, self.batch_size // max(1, len(alone)) // prompts),
                make_room=setting.unfuse if self.mode == "auto" else lambda: False,
            )
        finally:
            self._turns.end(setting)

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
