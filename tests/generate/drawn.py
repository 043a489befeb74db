"""What an engine draws, as tests compare it."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from lorastyle.generate import Engine, GenerateRequest


def latents_of(engine: Engine, request: GenerateRequest) -> list[Tensor]:
    """(c, h, w) of each picture: the autoencoder looks at all of it to decode each part."""
    seen: list[Tensor] = []
    decode = engine.base.decode
    engine.base.decode = lambda latents: (seen.append(latents), decode(latents))[1]
    try:
        engine.generate(request)
    finally:
        engine.base.decode = decode
    return [one for batch in seen for one in batch]


def pixels_of(engine: Engine, request: GenerateRequest) -> np.ndarray:
    """(h, w, 3) of the first picture, in whole numbers that can be subtracted."""
    return np.asarray(engine.generate(request)[0].image).astype(int)
