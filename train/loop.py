"""The loop. `Trainer.learn` is one step as the papers write it; `train` repeats it and keeps the books."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from lorastyle.bases import StableDiffusion
from lorastyle.errors import TrainingError

from .batches import Batch, Batches
from .cache import PromptEncoder
from .checkpoint import Checkpoint, restore, save_checkpoint
from .clock import Clock
from .events import Checkpointed, SampleDrawn, StepDone
from .objective import Objective, seeded
from .optim import build_optimizer, rate, set_rate
from .plan import Plan
from .run import RunFolder
from .stop import Stop

CLIP = 1.0


class Trainer:
    """One adapter on its way from zero.

    Args:
        parameters: the adapter's float32 factors, {component: {name: parameter}}.
        unadapted: makes a context in which the base answers as if there were no adapter.

    Attributes:
        step: how many steps are done.
        loss: the last step's; NaN before the first.
    """

    def __init__(
        self,
        plan: Plan,
        base: StableDiffusion,
        parameters: Mapping[str, Mapping[str, nn.Parameter]],
        batches: Batches,
        objective: Objective,
        unadapted: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.plan, self.base, self.batches, self.objective = plan, base, batches, objective
        self.unadapted = unadapted
        self.encode = PromptEncoder(
            base, trained=len(parameters) > ("unet" in parameters), clip_skip=plan.clip_skip
        )
        self._encode_unadapted = PromptEncoder(base, trained=False, clip_skip=plan.clip_skip)
        self.named = {f"{c}.{n}": p for c, of_c in parameters.items() for n, p in of_c.items()}
        self.parameters = list(self.named.values())
        self.optimizer = build_optimizer(
            {component: list(named.values()) for component, named in parameters.items()},
            {component: plan.lr if component == "unet" else plan.text_encoder_lr for component in parameters},
            plan.weight_decay,
        )
        self.step, self.loss, self.lr = 0, float("nan"), 0.0
        self._unproved: set[str] = set(self.named)
        self._patience = math.ceil(20 * plan.dropout / (1 - plan.dropout))

    def learn(self) -> float:
        """One step: noise the latents, ask the UNet, weigh its error, and follow the gradient."""
        plan, base, objective, step = self.plan, self.base, self.objective, self.step
        batch = self.batches(step)
        draw = objective.draw(plan.seed, step, batch.ids, batch.shape)
        t, noise, posterior, moments = (
            x.to(base.device) for x in (draw.timesteps, draw.noise, draw.posterior, batch.moments)
        )
        if plan.dropout:
            torch.manual_seed(seeded(plan.seed, step, "dropout").initial_seed())

        latents = base.latents(moments, posterior)
        noisy = objective.add_noise(latents, noise, t)
        target = self._as_the_base(batch, noisy, t, objective.target(latents, noise, t))
        prediction = base.predict(noisy, t, self.encode(batch.prompts), batch.time_ids)
        losses = objective.losses(prediction, target, t)
        loss = objective.total(losses, batch.of_class.to(base.device))
        self._refuse_nan(losses, batch, draw.timesteps)

        loss.backward()
        self._watch_gradients(losses)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
        if not bool(norm.isfinite()):
            raise TrainingError(f"The gradient of step {step + 1} is not a number. {self._calmer()}")
        self.lr = set_rate(self.optimizer, rate(step, plan.steps, plan.warmup))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step, self.loss = step + 1, float(loss.detach())
        return self.loss

    @torch.no_grad()
    def _as_the_base(self, batch: Batch, noisy: Tensor, t: Tensor, target: Tensor) -> Tensor:
        """`target`, but for class pictures what the base itself answers.

        The noise of a few dozen pictures says this only on average, and teaches those pictures besides;
        learning without forgetting (Li and Hoiem 2016, arXiv:1606.09282) asks the old model instead.
        """
        if not bool(batch.of_class.any()):
            return target
        of_class = batch.of_class.to(noisy.device)
        prompts = [p for p, is_class in zip(batch.prompts, batch.of_class.tolist(), strict=True) if is_class]
        with self.unadapted():
            embeds, time_ids = self._encode_unadapted(prompts), batch.time_ids[batch.of_class]
            answer = self.base.predict(noisy[of_class], t[of_class], embeds, time_ids)
        target = target.float()
        target[of_class] = answer.float()
        return target

    def _refuse_nan(self, losses: Tensor, batch: Batch, timesteps: Tensor) -> None:
        bad = (~losses.detach().isfinite()).nonzero().flatten().tolist()
        if bad:
            where = ", ".join(f'"{batch.ids[i]}" at timestep {int(timesteps[i])}' for i in bad)
            raise TrainingError(
                f"The loss of step {self.step + 1} is not a number ({where}). {self._calmer()}"
            )

    def _calmer(self) -> str:
        return (
            f"Train again with a lower --lr (this run's is {self.plan.lr:g}) or --precision float32; "
            "what was saved before is whole."
        )

    def _watch_gradients(self, losses: Tensor) -> None:
        """Every factor must get a gradient by step 2; in step 1 `up` is zero, so `down` gets none.

        Where inputs are dropped, a factor may have to wait for its turn.
        """
        if not self._unproved or not bool(losses.detach().gt(0).any()):
            return  # all weights are 0 at the last timestep of a zero-SNR schedule; the next step tells
        self._unproved = {
            name
            for name in self._unproved
            if (gradient := self.named[name].grad) is None or not bool(gradient.any())
        }
        if self._unproved and self.step >= 1 + self._patience:
            some = sorted(self._unproved)
            raise TrainingError(
                f"{len(some)} of {len(self.named)} trainable tensors get no gradient, so they would learn "
                f"nothing: {', '.join(some[:4])}{' ...' if len(some) > 4 else ''}. Choose other --targets."
            )

    def save(self, run: RunFolder, recipe: Mapping[str, str]) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            run.checkpoint, self.parameters, self.optimizer, step=self.step, loss=self.loss, recipe=recipe
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where the checkpoint was written.

        Raises:
            TrainingError: it holds other tensors than this run's.
        """
        restore(checkpoint, self.parameters, self.optimizer)
        self.step, self.loss = checkpoint.step, checkpoint.loss
        self._unproved = set()


def train(
    trainer: Trainer,
    run: RunFolder,
    recipe: Mapping[str, str],
    stop: Stop,
    sample: Callable[[int], Sequence[SampleDrawn]],
) -> float:
    """Learn until the plan's last step or until asked to stop; returns the mean loss of the last 20 steps."""
    plan, clock = trainer.plan, Clock(trainer.plan.batch_size)
    recent: deque[float] = deque([trainer.loss] if trainer.step else [], maxlen=20)
    while trainer.step < plan.steps and not stop.requested:
        with clock:
            recent.append(trainer.learn())
        step = trainer.step
        run.write(step, trainer.loss, trainer.lr)
        left = clock.seconds_left(plan.steps - step)
        stop.emit(StepDone(step, plan.steps, trainer.loss, trainer.lr, clock.images_per_second, left))
        if step % plan.save_every == 0 and step < plan.steps:
            trainer.save(run, recipe)
            stop.emit(Checkpointed(run.checkpoint))
        if plan.sample_every and step % plan.sample_every == 0 and step < plan.steps:
            for event in sample(step):
                stop.emit(event)
    trainer.save(run, recipe)
    stop.emit(Checkpointed(run.checkpoint))
    return sum(recent) / len(recent) if recent else float("nan")
