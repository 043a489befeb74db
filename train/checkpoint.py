"""What a run needs to go on bit for bit: factors, optimiser state and step, in one safetensors file.

No state of random generators is kept: all randomness of a step is a function of (seed, step, sample).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from lorastyle.adapters import atomic_write
from lorastyle.errors import ConfigError, TrainingError


@dataclass(frozen=True)
class Checkpoint:
    """A run at the end of a step.

    Attributes:
        step: how many steps are done.
        loss: the last one's.
        recipe: what must not change between the halves of a run, {name: value as text}.
        tensors: {"parameter.3": ..., "exp_avg.3": ...}, numbered in the order of the parameters.
    """

    step: int
    loss: float
    recipe: Mapping[str, str]
    tensors: Mapping[str, Tensor]


def save_checkpoint(
    path: Path,
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    loss: float,
    recipe: Mapping[str, str],
) -> Path:
    """Write atomically; a killed process leaves the checkpoint before."""
    tensors: dict[str, Tensor] = {}
    for i, parameter in enumerate(parameters):
        tensors[f"parameter.{i}"] = parameter.detach().cpu().contiguous()
        for key, value in cast("dict[str, Tensor]", optimizer.state[parameter]).items():
            tensors[f"{key}.{i}"] = value.detach().cpu().contiguous()
    header = {"step": str(step), "loss": repr(loss), "recipe": json.dumps(dict(recipe), sort_keys=True)}
    atomic_write(path, to_bytes(tensors, header))
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `save_checkpoint` wrote.

    Raises:
        FileNotFoundError: there is no checkpoint.
        TrainingError: it is damaged.
        OSError: it cannot be opened.
    """
    path.open("rb").close()  # whose errors say what is wrong; those of safetensors are without a number
    try:
        with safe_open(path, "pt") as file:
            header = cast("dict[str, str]", file.metadata() or {})
            # Cloned, for on Windows a file that is mapped into memory cannot be replaced.
            tensors = {name: file.get_tensor(name).clone() for name in cast("list[str]", file.keys())}
        return Checkpoint(int(header["step"]), float(header["loss"]), json.loads(header["recipe"]), tensors)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(
            f'The checkpoint "{path}" is damaged ({error}). Train again without --resume.'
        ) from error


def restore(checkpoint: Checkpoint, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put the checkpoint's values into the parameters and the optimiser, in place.

    Raises:
        TrainingError: the checkpoint holds other tensors than these parameters.
    """
    found = sum(name.startswith("parameter.") for name in checkpoint.tensors)
    if found != len(parameters):
        raise TrainingError(
            f"The checkpoint holds {found} trainable tensors; this run has {len(parameters)}."
        )
    state: dict[int, dict[str, Any]] = {i: {} for i in range(len(parameters))}
    for name, value in checkpoint.tensors.items():
        key, _, index = name.rpartition(".")
        parameter = parameters[int(index)]
        if key != "parameter":
            state[int(index)][key] = value
            continue
        if value.shape != parameter.shape:
            raise TrainingError(
                f"The checkpoint's tensor {index} has shape {tuple(value.shape)}; "
                f"this run's has {tuple(parameter.shape)}."
            )
        with torch.no_grad():
            parameter.copy_(value)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {i: s for i, s in state.items() if s}, "param_groups": groups})


def check_recipe(checkpoint: Checkpoint, recipe: Mapping[str, str]) -> None:
    """Refuse to go on with settings that would make the first half of the run another run.

    Raises:
        ConfigError: every setting that changed, with both values.
    """
    names = sorted({*checkpoint.recipe, *recipe})
    changed = [n for n in names if checkpoint.recipe.get(n) != recipe.get(n)]
    if changed:
        raise ConfigError(
            [
                f"{n} was {checkpoint.recipe.get(n, 'not set')} when the run was stopped, and is "
                f"{recipe.get(n, 'not set')} now; put it back, or train without --resume."
                for n in changed
            ]
        )
