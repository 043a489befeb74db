"""peft's folders: `adapter_model.safetensors` with `base_model.model.<path>.lora_A.weight`, and an
`adapter_config.json` beside it. A folder holds one component; lorastyle keeps several as subfolders named
after them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lorastyle.errors import AdapterFileError

from .lora_config import parse_config
from .lora_tensors import peft_tensors
from .stated import CONFIG

if TYPE_CHECKING:
    from torch import Tensor

    from ..lowrank import LowRank
    from ..updates import Update

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_READ = ("LORA", "LOHA", "LOKR")


def check_config(text: str) -> None:
    """Is it a configuration that can be read?

    Raises:
        AdapterFileError: it is no JSON, or that of another method than LoRA, LoHa and LoKr.
    """
    kind = parse_config(text, CONFIG).get("peft_type")
    if kind not in _READ:
        raise AdapterFileError(
            f"{CONFIG} is that of peft's {kind!r}; only LORA, LOHA and LOKR are read. Export the adapter as "
            "LoRA, or with LyCORIS's key names."
        )


def write(updates: Mapping[str, LowRank | Update]) -> tuple[dict[str, Tensor], str]:
    """The tensors of one component, all LoRA or all plain DoRA, and the text of its configuration.

    Modules are called as in the model that the adapter was made with, for peft looks them up by these names.
    Every module's rank and alpha are said: the commonest once, others by patterns that match one whole name.
    """
    from ..lowrank import LowRank

    factors: dict[str, LowRank] = {
        path: update if isinstance(update, LowRank) else update.inside  # pyright: ignore
        for path, update in updates.items()
    }
    tensors = {
        f"{_PREFIX}{path}.{end}": tensor
        for path, update in updates.items()
        for end, tensor in peft_tensors(update).items()
    }
    rank = Counter(update.rank for update in factors.values()).most_common(1)[0][0]
    alpha = Counter(update.alpha for update in factors.values()).most_common(1)[0][0]
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(updates),
        "rank_pattern": {f"^{re.escape(p)}": u.rank for p, u in factors.items() if u.rank != rank},
        "alpha_pattern": {f"^{re.escape(p)}": u.alpha for p, u in factors.items() if u.alpha != alpha},
        "use_rslora": False,
        "use_dora": not all(isinstance(update, LowRank) for update in updates.values()),
        "bias": "none",
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    return tensors, json.dumps(config, indent=1)
