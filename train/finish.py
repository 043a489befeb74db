"""The end of a run: the adapter's file, its settings, and the sheet."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from lorastyle.adapters import atomic_write, read_header, write_sidecars
from lorastyle.bank import AdapterBank
from lorastyle.bases import MODES, StableDiffusion
from lorastyle.errors import AdapterFileError

from .draw import draw
from .plan import Plan
from .sheet import Pair, make_sheet
from .weights import WeightHashes


def metadata(plan: Plan, base: StableDiffusion, steps: int) -> dict[str, str]:
    """What the file says about itself: how to call it and how it was made; no caption, no path."""
    recipe = {
        "steps": steps,
        "planned_steps": plan.steps,
        "lr": plan.lr,
        "text_encoder_lr": plan.text_encoder_lr,
        "schedule": "cosine",
        "warmup": plan.warmup,
        "batch_size": plan.batch_size,
        "resolution": plan.resolution,
        "images": plan.pictures,
        "seed": plan.seed,
        "targets": list(plan.patterns),
        "optimizer": "AdamW",
        "weight_decay": plan.weight_decay,
        "min_snr_gamma": plan.min_snr_gamma,
        "clip_skip": plan.clip_skip,
        "dropout": plan.dropout,
        "rslora": plan.rslora,
        "prior": plan.prior,
        "prior_images": plan.prior_images,
        "precision": plan.precision,
        "memory": plan.memory,
    }
    v = base.prediction_type == "v_prediction"
    kind = {
        "modelspec.prediction_type": "v" if v else base.prediction_type,
        "modelspec.resolution": f"{plan.resolution}x{plan.resolution}",
    }
    if base.family == "sd2":  # two of a kind: readers need to know which
        kind |= {
            "modelspec.architecture": f"stable-diffusion-v2-{'768-v' if v else '512'}/lora",
            "ss_v_parameterization": str(v),
        }
    facts = {
        **kind,
        "lorastyle.base": base.family,
        "lorastyle.base_name": Path(base.name).name,  # of a folder only its last part
        "lorastyle.trigger": plan.trigger,
        "lorastyle.class": plan.class_name,
        "lorastyle.kind": plan.kind,
        "lorastyle.rank": str(plan.rank),
        "lorastyle.alpha": f"{plan.alpha:g}",
        "lorastyle.prediction_type": base.prediction_type,
        "ss_clip_skip": str(plan.clip_skip) if plan.clip_skip > 1 else "",
        "lorastyle.recipe": json.dumps(recipe),
    }
    return {key: value for key, value in facts.items() if value}


def is_finished(adapter: Path) -> bool:
    """Whether an adapter is there that was not stopped half-way, by what its header says."""
    if not adapter.exists():
        return False
    try:
        recipe = json.loads(read_header(adapter).metadata.get("lorastyle.recipe", "{}"))
        return recipe.get("steps") == recipe.get("planned_steps", recipe.get("steps"))
    except (AdapterFileError, ValueError, AttributeError):  # none of ours: not ours to give up either
        return True


def draw_pairs(
    plan: Plan,
    base: StableDiffusion,
    bank: AdapterBank,
    keep_going: Callable[[int], bool] = lambda done: True,
) -> list[Pair] | None:
    """Draw the plan's prompts without and with the adapter; None when told to end before all are drawn.

    Args:
        keep_going: called with the number of pictures so far, of two for each prompt; False ends early.
    """
    prompts, seeds = plan.sample_prompts, [plan.seed + i for i in range(len(plan.sample_prompts))]
    drawn = partial(draw, base, prompts, seeds, resolution=plan.resolution, clip_skip=plan.clip_skip)
    asked_to_end = False

    def first_half(done: int) -> bool:  # its last batch may be the only one: no answer may be lost
        nonlocal asked_to_end
        asked_to_end = not keep_going(done)
        return not asked_to_end

    with bank.disabled():
        without = drawn(keep_going=first_half)
    if asked_to_end:
        return None
    with_adapter = drawn(keep_going=lambda done: keep_going(len(prompts) + done))
    if len(with_adapter) < len(prompts):
        return None
    return [Pair(*row) for row in zip(prompts, without, with_adapter, strict=True)]


def save_sheet(plan: Plan, pairs: Sequence[Pair], path: Path) -> Path:
    """The pairs side by side, under the plan's name and what it did."""
    subtitle = (
        f"{plan.kind} from {plan.pictures} picture{'s' * (plan.pictures != 1)}  ·  {plan.steps} steps  ·  "
        f"rank {plan.rank}  ·  same prompts and seeds on both sides"
    )
    return save_png(make_sheet(pairs, plan.name, subtitle), path)


def save_sidecars(adapter: Path, preview: Image.Image | None) -> str | None:
    """Write what A1111, Forge and InvokeAI show of an adapter; why that was not possible, or None."""
    try:
        write_sidecars(adapter, preview=preview)
    except AdapterFileError as error:
        return f"{adapter.name} is finished; what other programs show of it was not written: {error}"
    return None


def draw_sample(plan: Plan, base: StableDiffusion, path: Path) -> Path:
    """A strip of the first prompts with the adapter as it is."""
    prompts = plan.sample_prompts[:4]
    pictures = draw(
        base,
        prompts,
        [plan.seed + i for i in range(len(prompts))],
        resolution=plan.resolution,
        clip_skip=plan.clip_skip,
    )
    return save_png(_strip(pictures), path)


def _strip(pictures: Sequence[Image.Image]) -> Image.Image:
    gap, side = 8, pictures[0].width
    strip = Image.new("RGB", (len(pictures) * (side + gap) - gap, side), "white")
    for i, picture in enumerate(pictures):
        strip.paste(picture, (i * (side + gap), 0))
    return strip


def save_png(picture: Image.Image, path: Path) -> Path:
    """Write atomically."""
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    atomic_write(path, data.getvalue())
    return path


def recipe_of(
    plan: Plan,
    base: StableDiffusion,
    hashes: WeightHashes,
    pictures: Mapping[str, str],
    prompts: Sequence[str],
) -> dict[str, str]:
    """What must not change between the halves of a run, as text. The number of steps may.

    Args:
        hashes: of the base's weights.
        pictures: {name: hash of the file} of everything trained on.
        prompts: theirs, in the same order.
    """
    return {
        "the base": f"{base.family} {Path(base.name).name} {base.prediction_type}",
        "the base's noise schedule": hashlib.sha256(base.alphas_cumprod.cpu().numpy().tobytes()).hexdigest()[
            :12
        ],
        "the base's autoencoder": hashes["vae"][:12],
        **{f"the base's {name}": hashes[name][:12] for name in base.components},
        **{f"the picture {name}": digest[:12] for name, digest in pictures.items()},
        "the prompts": _digest(list(prompts)),
        "the class pictures' prompts": _digest(list(plan.prior_prompts)),
        "targets": ", ".join(
            f"{len(paths)} {c} ({_digest(list(paths))})" for c, paths in plan.targets.items()
        ),
        "the bits of the base's linear layers": str(MODES[plan.memory].bits or "all"),
        **{
            key: str(getattr(plan, key))
            for key in (
                "rank alpha rslora dropout lr text_encoder_lr weight_decay batch_size resolution seed "
                "min_snr_gamma clip_skip prior prior_images background precision"
            ).split()
        },
    }


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]
