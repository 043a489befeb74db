"""`fit`: a folder of pictures in, an adapter out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from lorastyle.adapters import (
    FULL,
    SHEET,
    TOO_MANY_FILES,
    atomic_write,
    file_hash,
    save_adapter,
    set_metadata,
    thumbnail,
)
from lorastyle.bank import AdapterBank
from lorastyle.bases import StableDiffusion
from lorastyle.errors import AdapterFileError, ConfigError, TrainingError
from lorastyle.notes import listening
from lorastyle.pictures import Unusable

from .batches import Batches, Picture
from .cache import LatentCache
from .checkpoint import Checkpoint, check_recipe, load_checkpoint
from .config import TrainConfig
from .dataset import Dataset, scan
from .events import Begun, Finished, FitResult, Listener, PlanReady, Preparing, SampleDrawn, Warned
from .finish import draw_pairs, draw_sample, is_finished, metadata, recipe_of, save_sheet, save_sidecars
from .journal import Journal
from .loop import Trainer, train
from .modes import (
    checkpointing,
    own_random_state,
    quick_attention,
    told_short_memory,
    training,
)
from .objective import Objective
from .os_errors import translate_os_errors
from .pictures import framing, load_pixels
from .plan import Plan, make_plan
from .prior import class_images, model_key
from .run import RunFolder
from .stop import Stop
from .trainable import load_trainable, trainable
from .weights import WeightHashes


def fit(
    config: TrainConfig,
    *,
    base: StableDiffusion | None = None,
    on_event: Listener | None = None,
    resume: bool = False,
) -> FitResult:
    """Train an adapter on a folder of pictures, and write it with its settings and a before/after sheet.

    Ctrl-C, SIGTERM and `request_stop` end the run between two steps: what there is gets saved, and
    `resume=True` goes on from there bit for bit. `observe` follows it from another process. The caller's
    random generators, and the base, are left as they were.

    Args:
        base: a loaded base; None loads `config.base`.
        on_event: called with what happens (see `lorastyle.train.events`), in this thread.
        resume: go on from the checkpoint in the run's folder. More steps than before are fine. Where there is
            no checkpoint yet, the training starts at step 0, and a `Warned` event says so.

    Raises:
        ConfigError, DatasetError, BaseError, TargetError: before anything is trained.
        TrainingError: another run holds the folder, the loss is not a number, something gets no gradient,
            the disk or the memory is full.
        KeyboardInterrupt: stopped before the first step, when there is nothing to save.
    """
    started = time.perf_counter()
    with Stop(on_event) as stop:
        dataset = scan(config)  # before anything slow: a wrong folder is told at once
        # of a base that somebody else has, the weights may have been changed since it was loaded
        given, base = base, load_trainable(config) if base is None else trainable(base)
        plan = make_plan(config, base, dataset, resume=resume)
        stop.emit(PlanReady(plan))
        if not base.placement.settled:
            base.placement.arrange(plan.memory)
        run = RunFolder(plan.out)
        with run.claimed(), Journal.kept(run, plan, resume) as journal:
            with stop.watching(run.stop, journal), own_random_state(base), translate_os_errors(run, stop):
                with told_short_memory(plan):
                    hashes = WeightHashes(base, base.files if given is None else None)
                    result = _fit(config, plan, base, hashes, dataset, run, stop, resume, started)
            journal(Finished(result))  # while the lock is held: without an end, the run was killed
    stop.emit(Finished(result))
    return result


def _fit(
    config: TrainConfig,
    plan: Plan,
    base: StableDiffusion,
    hashes: WeightHashes,
    dataset: Dataset,
    run: RunFolder,
    stop: Stop,
    resume: bool,
    started: float,
) -> FitResult:
    objective = Objective(base.alphas_cumprod, base.prediction_type, plan.min_snr_gamma, plan.prior)
    prompts = [sample.prompt for sample in dataset.used]
    recipe = recipe_of(plan, base, hashes, {s.name: _hash(s.name, s.path) for s in dataset.used}, prompts)
    checkpoint = _checkpoint(run, stop) if resume else None
    if checkpoint is not None:
        check_recipe(checkpoint, recipe)
        if checkpoint.step > plan.steps:
            raise ConfigError(
                f"steps = {plan.steps}: the stopped run has done {checkpoint.step} already; ask for at least "
                "as many, or train without --resume."
            )
    # A finished adapter is not given up for one that was stopped half-way.
    keep = is_finished(plan.out)
    of_class = _draw_class(plan, hashes, stop) if plan.prior else []
    pictures = _encode(plan, hashes, dataset, of_class, stop)

    bank = AdapterBank(base.components)
    bank.create(
        plan.name,
        plan.targets,
        rank=plan.rank,
        alpha=plan.alpha,
        rslora=plan.rslora,
        dropout=plan.dropout,
        seed=plan.seed,
    )
    try:
        at_work = ("unet", *(base.text_encoders if set(plan.targets) & set(base.text_encoders) else ()))
        with (
            checkpointing(base, plan.gradient_checkpointing),
            listening(lambda text: stop.emit(Warned(text))),
            base.placement.using(*at_work),
        ):
            batches = Batches(
                [p for p in pictures if not p.of_class],
                [p for p in pictures if p.of_class],
                plan.batch_size,
                plan.seed,
            )
            trainer = Trainer(plan, base, _named(bank, plan), batches, objective, bank.disabled)
            # one by one: a hundred captions at once would not fit a small card
            with torch.no_grad(), base.placement.using(*base.text_encoders):
                for prompt in dict.fromkeys(p.prompt for p in pictures):
                    trainer.encode([prompt])
            if checkpoint is not None:
                trainer.resume(checkpoint)
            settings = plan.resolved(config).to_toml()
            run.open(settings, trainer.step)
            stop.emit(Begun(trainer.step, plan.steps))

            def sample(step: int) -> Sequence[SampleDrawn]:
                with training(base, False):
                    return [SampleDrawn(draw_sample(plan, base, run.sample(step)))]

            with training(base, bool(plan.dropout)), quick_attention(base, plan.resolution):
                loss = train(trainer, run, recipe, stop, sample)
            run.close()
            if not trainer.step:
                _end_if(stop)
            return _finish(plan, base, bank, run, trainer, stop, settings, loss, started, keep)
    finally:
        bank.detach()
        run.close()


def _finish(
    plan: Plan,
    base: StableDiffusion,
    bank: AdapterBank,
    run: RunFolder,
    trainer: Trainer,
    stop: Stop,
    settings: str,
    loss: float,
    started: float,
    keep: bool,
) -> FitResult:
    interrupted, sheet = trainer.step < plan.steps, None
    aside = interrupted and keep
    on = f'lorastyle train --config "{run.settings}" --resume'
    try:
        exported = bank.export(plan.name, metadata(plan, base, trainer.step))
        adapter = save_adapter(exported, run.stopped if aside else plan.out)
    except AdapterFileError as error:
        kept = f"The training is kept in {run.path}; once that is mended, write the adapter with: {on}"
        raise TrainingError(f"{error} {kept}") from error
    toml = run.settings if aside else plan.out.with_suffix(".toml")
    atomic_write(toml, settings.encode())
    if interrupted:
        kept = f"; the finished {plan.out.name} was left as it is" if aside else ""
        stop.emit(
            Warned(
                f"Stopped at step {trainer.step} of {plan.steps}; {adapter.name} is the adapter as it is"
                f"{kept}. Go on with: {on}"
            )
        )
    else:
        run.stopped.unlink(missing_ok=True)
        total = 2 * len(plan.sample_prompts)

        def drawn(done: int) -> bool:
            stop.emit(Preparing("drawing the sheet", done, total))
            return not stop.requested

        shown: Image.Image | None = None
        if plan.sheet:
            drawn(0)
            if pairs := draw_pairs(plan, base, bank, drawn):
                sheet = save_sheet(plan, pairs, plan.out.with_suffix(SHEET))
                shown = pairs[0].with_adapter
                set_metadata(adapter, {"modelspec.thumbnail": thumbnail(shown)})
            else:
                stop.emit(
                    Warned(f"{adapter.name} is finished; stopped before its sheet was. Draw it with: {on}")
                )
        if plan.sidecars and (why := save_sidecars(adapter, shown)):
            stop.emit(Warned(why))
    seconds = time.perf_counter() - started
    return FitResult(adapter, sheet, toml, run.path, trainer.step, seconds, loss, interrupted)


def _checkpoint(run: RunFolder, stop: Stop) -> Checkpoint | None:
    """What a run resumes from. A run that was stopped before its first checkpoint starts at step 0."""
    try:
        return load_checkpoint(run.checkpoint)
    except FileNotFoundError:
        stop.emit(Warned(f"There is no checkpoint in {run.path} yet: the training starts at step 0."))
        return None


def _hash(name: str, path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        if error.errno in TOO_MANY_FILES:  # which says nothing of the picture
            raise
        raise _gone(name, error) from error


def _gone(name: str, error: Exception) -> TrainingError:
    why = (error.strerror if isinstance(error, OSError) else None) or error
    return TrainingError(
        f'"{name}" was whole when the run began and cannot be read now ({why}). Put it back and train again.'
    )


def _draw_class(plan: Plan, hashes: WeightHashes, stop: Stop) -> list[tuple[Path, str]]:
    """Class pictures and their prompts, shared out evenly among the prompts."""
    found: list[tuple[Path, str]] = []

    def progress(done: int, total: int) -> bool:
        stop.emit(Preparing("drawing class pictures", len(found) + done, plan.prior_images))
        return not stop.requested

    base, model = hashes.base, model_key(hashes)
    for i, prompt in enumerate(plan.prior_prompts[: plan.prior_images]):
        count = len(range(i, plan.prior_images, len(plan.prior_prompts)))
        files = class_images(
            base,
            prompt,
            count,
            resolution=plan.resolution,
            model=model,
            folder=plan.prior_folder,
            clip_skip=plan.clip_skip,
            progress=progress,
        )
        found += [(file, prompt) for file in files]
        _end_if(stop)
    return found


def _encode(
    plan: Plan, hashes: WeightHashes, dataset: Dataset, of_class: Sequence[tuple[Path, str]], stop: Stop
) -> list[Picture]:
    """Every picture's moments, from the cache or made now."""
    cache = LatentCache(hashes.base, hashes=hashes, keep=plan.keep_latents)
    transform = f"{plan.resolution} on {plan.background}"
    todo = [(s.name, s.path, s.prompt, False, framing(s.size, plan.resolution)) for s in dataset.used]
    whole = framing((plan.resolution, plan.resolution), plan.resolution)
    todo += [
        (f"class/{path.parent.name}/{path.name}", path, prompt, True, whole) for path, prompt in of_class
    ]
    pictures: list[Picture] = []
    for name, path, prompt, is_class, time_ids in todo:
        _end_if(stop)
        load = partial(load_pixels, path, plan.resolution, plan.background)
        try:
            moments = cache.moments(path, transform, load)
        except (OSError, Unusable) as error:
            if isinstance(error, OSError) and error.errno in (TOO_MANY_FILES | FULL):
                raise  # which says nothing of the picture
            raise _gone(name, error) from error
        pictures.append(Picture(name, prompt, moments, is_class, time_ids))
        stop.emit(Preparing("encoding pictures", len(pictures), len(todo)))
    if cache.unwritable:
        stop.emit(Warned(f"Latents could not be kept for next time ({cache.unwritable})."))
    return pictures


def _end_if(stop: Stop) -> None:
    if stop.requested:
        raise KeyboardInterrupt("stopped before the first step; nothing was saved")


def _named(bank: AdapterBank, plan: Plan) -> dict[str, dict[str, nn.Parameter]]:
    """The adapter's factors by component and name; the bank lists down and up of each module in turn."""
    return {
        component: dict(
            zip(
                (f"{path}.{factor}" for path in paths for factor in ("down", "up")),
                bank.parameters(plan.name, component),
                strict=True,
            )
        )
        for component, paths in plan.targets.items()
    }
