"""Loading without chatter: notices about torchvision, progress bars for a second's work."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def quiet() -> Generator[None]:
    """Hush transformers and diffusers below errors, and put their settings back."""
    with quiet_logger("bitsandbytes"):  # which both import where it is there
        # transformers first: diffusers imports it, and the notices come while it does
        from transformers.utils import logging as transformers_logging

        with _hushed(transformers_logging):
            from diffusers.utils import logging as diffusers_logging

            with _hushed(diffusers_logging):
                yield


@contextmanager
def quiet_logger(name: str) -> Generator[None]:
    """No word of a package below errors, by Python's own logging."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _hushed(logging: ModuleType) -> Generator[None]:
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    _set_bars(logging, False)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        _set_bars(logging, bars)


def _set_bars(logging: ModuleType, enabled: bool) -> None:
    # transformers' own switches also flip huggingface_hub's, which shows downloads that are worth showing
    vars(logging)["_tqdm_active"] = enabled
