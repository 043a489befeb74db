"""A bank on whatever the user has: a pipeline, a mapping of modules, or one module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import nn

from lorastyle.errors import AdapterError

from .bank import AdapterBank
from .residents import COMPONENTS


def attach(pipe: object) -> AdapterBank:
    """A bank on any diffusers pipeline, on a mapping of modules, or on one module, taken as the UNet.

    Nothing of the model changes before an adapter is added. Sequential CPU offload
    (`enable_sequential_cpu_offload`) finds weights by their paths, so turn it on first.

    Args:
        pipe: an object with `unet`, `text_encoder` or `text_encoder_2` (those that it has are used), a
            mapping of these names to modules, or a module.

    Raises:
        AdapterError: there is nothing to attach to, the pipeline has a transformer instead of a UNet (Flux,
            Stable Diffusion 3), or another bank holds adapters on it already.
    """
    if isinstance(pipe, nn.Module):
        return AdapterBank({"unet": pipe})
    if isinstance(pipe, Mapping):
        return AdapterBank(cast("Mapping[str, nn.Module]", pipe))
    held = {name: getattr(pipe, name, None) for name in COMPONENTS}
    listed = getattr(pipe, "components", None)
    if isinstance(listed, Mapping):
        held |= {name: listed[name] for name in COMPONENTS if name in listed}
    components = {name: module for name, module in held.items() if isinstance(module, nn.Module)}
    if (other := getattr(pipe, "transformer", None)) is not None and "unet" not in components:
        raise AdapterError(
            f"{type(pipe).__name__} has a transformer ({type(other).__name__}) instead of a UNet, and "
            "lorastyle has adapters for the UNets of Stable Diffusion 1.x, 2.x and XL. For its text encoders "
            'alone, give a mapping such as {"text_encoder": pipe.text_encoder}.'
        )
    if not components:
        raise AdapterError(
            f"{type(pipe).__name__} has none of {', '.join(COMPONENTS)}, so there is nothing to attach to. "
            "Give a Stable Diffusion pipeline, or a mapping of these names to modules."
        )
    return AdapterBank(components)
