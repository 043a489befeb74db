"""What peft knows to hold: LoRA, and DoRA of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorastyle.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor

    from ..adapter import Adapter
    from ..lowrank import LowRank
    from ..updates import DoRA, Update


def is_plain_dora(update: Update) -> bool:
    """Whether peft can hold it."""
    from ..lowrank import LowRank
    from ..updates import DoRA

    plain = isinstance(update, DoRA) and isinstance(update.inside, LowRank) and update.axis == 0
    return plain and update.bias is None


def check_peft_can_hold(adapter: Adapter, format: str) -> None:
    """peft has LoRA, or DoRA of rows for every module alike.

    Raises:
        AdapterError: the adapter has an update of another kind, or both, or words of its own.
    """
    if adapter.words:
        raise AdapterError(
            f"The adapter brings words of its own ({', '.join(adapter.words)}), which the format {format!r} "
            "has no place for. Write it as 'kohya'."
        )
    for component, path, update in adapter.dense_updates():
        if not is_plain_dora(update):
            raise AdapterError(
                f"{component} {path} is a {update.algorithm}, which the format {format!r} has no place for. "
                "Write it as 'kohya'."
            )
    if any(True for _ in adapter.dense_updates()) and any(True for _ in adapter.updates()):
        raise AdapterError(
            f"Some modules are LoRA and some are DoRA, and the format {format!r} holds one of them only. "
            "Write it as 'kohya'."
        )


def peft_tensors(update: LowRank | Update) -> dict[str, Tensor]:
    """The tensors of a LoRA or a plain DoRA, by the ends of their keys."""
    from ..lowrank import LowRank

    if isinstance(update, LowRank):
        return {"lora_A.weight": update.down, "lora_B.weight": update.up}
    dora: DoRA = update  # pyright: ignore[reportAssignmentType]
    inside: LowRank = dora.inside  # pyright: ignore[reportAssignmentType]
    rows = dora.magnitude
    if inside.down.ndim == 4:
        rows = rows.reshape(1, -1, 1, 1)
    return {**peft_tensors(inside), "lora_magnitude_vector": rows}
