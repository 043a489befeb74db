"""Write the trained parts as the package's embedded base, in float16.

    python -m tools.embedded_base.export

The target is an ordinary StableDiffusionPipeline folder, with three things more: `lorastyle.json`
(which base this is), `likeness/` (a CLIPModel, the image-text encoder), and the model card, which
evaluate.py fills in.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportOptionalCall=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch

from . import icons, tokenizer
from .diffusion import Painter, pipeline
from .likeness import build as build_likeness
from .training import load

TARGET = Path(__file__).parents[2] / "lorastyle" / "bases" / "embedded"
MEGABYTES = 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=TARGET)
    target: Path = parser.parse_args().to
    work, words = icons.work_folder(), tokenizer.load()
    painted, pool, like = load(work / "painter.pt"), load(work / "latents.pt"), load(work / "likeness.pt")
    if painted is None or pool is None:
        raise SystemExit("train the UNet first: python -m tools.embedded_base.diffusion")

    model = Painter(words)
    model.load_state_dict(painted["average"])  # type: ignore[arg-type]
    made = pipeline(model, float(pool["scaling"]))  # type: ignore[arg-type]
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.rmtree(target / part, ignore_errors=True)
    made.to(torch.float16).save_pretrained(target)
    for config in target.glob("*/*config.json"):  # where it was made is nobody's business
        told = json.loads(config.read_text())
        if told.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")
    facts = {
        "family": "lorastyle-icons",
        "version": 1,
        "images_seen": int(painted["images"]),  # type: ignore[call-overload]
        "styles": list(icons.STYLES.values()),
        "subjects": [icons.phrase(s) for s in icons.subjects()],
    }
    (target / "lorastyle.json").write_text(json.dumps(facts, indent=1) + "\n")
    if like is not None:
        encoder = build_likeness(len(words), end=int(words.eos_token_id))
        encoder.load_state_dict(like["average"])  # type: ignore[arg-type]
        encoder.half().save_pretrained(target / "likeness")
    size = sum(f.stat().st_size for f in target.rglob("*") if f.is_file()) / 1e6
    print(f"{target}: {size:.1f} MB")
    if size > MEGABYTES:
        raise SystemExit(f"{size:.1f} MB is over the {MEGABYTES} MB the package may carry")


if __name__ == "__main__":
    main()
