"""What a file is that lorastyle has no use for, in one sentence that every command says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lorastyle.errors import AdapterError, AdapterFileError, BaseMismatchError

from .families import family_title, is_foreign, tell_family
from .formats import FORMATS
from .source import Source

_WIDTHS = (768, 1024, 1280)  # of the vectors for a word in Stable Diffusion 1.x, 2.x and XL
_WORD = re.compile(r"emb_params|string_to_param\.\*|clip_[lgh]")
_CONTROL = re.compile(
    r"control_model\.|controlnet_|input_hint_block\.|image_proj\.|ip_adapter\.|lora_controlnet"
)
_CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")


def family_of(source: Source) -> str | None:
    """The family that a file was made for, as `read_info` tells it."""
    return tell_family(source.header.metadata, source.witnesses)[0]


def refuse_other_architectures(source: Source) -> None:
    """Was it made for an architecture that lorastyle draws with?

    Raises:
        BaseMismatchError: it was not; the message says for which one, as far as the file shows it.
    """
    family = family_of(source)
    if is_foreign(family):
        raise BaseMismatchError.at(
            source.path,
            f"it was made for {family_title(family)}, and lorastyle draws with Stable Diffusion 1.x, 2.x and "
            "XL. Use an adapter made for one of these.",
        )


def _is_lone_word(source: Source) -> bool:
    """As diffusers saves a textual inversion: one tensor by the word's own name, a row for each vector."""
    if len(source.header.tensors) != 1:
        return False
    ((name, entry),) = source.header.tensors.items()
    return "." not in name and len(entry.shape) in (1, 2) and entry.shape[-1] in _WIDTHS


def no_adapter(path: Path, sources: Sequence[Source]) -> AdapterError:
    """The error for a file without a tensor that lorastyle can read as an adapter's."""
    for source in sources:
        try:
            refuse_other_architectures(source)
        except BaseMismatchError as error:
            return error
    names = [name for source in sources for name in source.header.tensors]
    if any(name.startswith(_CHECKPOINT) for name in names):
        why = "no adapter in it: this is a whole checkpoint. Use it as the base, and an adapter file here."
    elif any(_WORD.fullmatch(name) for name in names) or all(_is_lone_word(source) for source in sources):
        why = (
            "this is a textual inversion, which stands for a word of the prompt, and not an adapter. "
            "lorastyle reads them only inside an adapter file: leave it out, and name the adapter here."
        )
    elif any(_CONTROL.match(name) for name in names):
        why = (
            "this is a ControlNet or an IP-Adapter, which lorastyle does not draw with. Use an adapter "
            "(LoRA) here."
        )
    else:
        shown = ", ".join(repr(name) for name in names[:3]) or "no tensor at all"
        known = ", ".join(fmt.name for fmt in FORMATS)
        why = f"no adapter in a format that lorastyle knows ({known}); it holds {shown}."
    return AdapterFileError.at(path, why)
