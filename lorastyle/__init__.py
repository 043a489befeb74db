"""Make a small adapter from a handful of images, and draw with it, alone or stacked with others.

    base = lorastyle.load_base()
    engine = lorastyle.Engine(base)
    request = lorastyle.GenerateRequest("a cat", adapters=(lorastyle.AdapterUse("sticker", 0.8),))
    for picture in engine.generate(request):
        lorastyle.save_picture(picture, "pictures/cat.png")

Names are imported when they are first used, so that `import lorastyle` is instant and does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .adapters import Adapter, AdapterInfo, LowRank, load_adapter, read_info, save_adapter
    from .bank import AdapterBank, attach, select_targets
    from .bases import StableDiffusion, load_base
    from .errors import (
        AdapterError,
        AdapterFileError,
        BaseError,
        BaseMismatchError,
        ConfigError,
        DatasetError,
        HubError,
        LorastyleError,
        PictureError,
        TargetError,
        TrainingError,
    )
    from .generate import (
        AdapterUse,
        Engine,
        GenerateRequest,
        Picture,
        read_request,
        read_settings,
        save_picture,
    )

    __version__: str

__all__ = [
    "Adapter",
    "AdapterBank",
    "AdapterError",
    "AdapterFileError",
    "AdapterInfo",
    "AdapterUse",
    "BaseError",
    "BaseMismatchError",
    "ConfigError",
    "DatasetError",
    "Engine",
    "GenerateRequest",
    "HubError",
    "LorastyleError",
    "LowRank",
    "Picture",
    "PictureError",
    "StableDiffusion",
    "TargetError",
    "TrainingError",
    "__version__",
    "attach",
    "load_adapter",
    "load_base",
    "read_info",
    "read_request",
    "read_settings",
    "save_adapter",
    "save_picture",
    "select_targets",
]

_HOMES = {
    "adapters": ("Adapter", "AdapterInfo", "LowRank", "load_adapter", "read_info", "save_adapter"),
    "bank": ("AdapterBank", "attach", "select_targets"),
    "bases": ("StableDiffusion", "load_base"),
    "generate": (
        "AdapterUse",
        "Engine",
        "GenerateRequest",
        "Picture",
        "read_request",
        "read_settings",
        "save_picture",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # hidden from type checkers, so that a misspelt name stays an error for them

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            value: object = version("lorastyle")
        elif name in __all__:
            value = getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
