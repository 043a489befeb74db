"""Train the image-text encoder: a CLIP model of 3 MB for icons, shipped with the base.

    python -m tools.embedded_base.likeness --minutes 12

Contrastive (Radford et al. 2021) on the composed, captioned pictures of the four sets. With it the
likeness of a drawing to training pictures, and its fidelity to a prompt, are scored offline.
"""

# diffusers and transformers annotate more narrowly than they accept, and re-export lazily.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false, reportOptionalCall=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import argparse
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel

from . import icons, tokenizer
from .augment import Composer
from .training import Average, Clock, autocast, learning_rate, load, save

SIDE = 128


def build(words: int, *, end: int) -> CLIPModel:
    common = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4, "projection_dim": 128}
    config = CLIPConfig(
        text_config={
            **common,
            "vocab_size": words,
            "num_hidden_layers": 2,
            "max_position_embeddings": tokenizer.MAX_LENGTH,
            "eos_token_id": end,
            "pad_token_id": end,
            "bos_token_id": end - 1,
        },
        vision_config={**common, "num_hidden_layers": 4, "image_size": SIDE, "patch_size": 16},
        projection_dim=128,
    )
    return CLIPModel(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--batch", type=int, default=192)
    args = parser.parse_args()
    torch.manual_seed(0)

    composer, words = Composer(), tokenizer.load()
    jobs = [(k, i) for i in range(6) for k in composer.keys]
    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(lambda j: composer.varied(j[0], random.Random(f"like {j}")), jobs))
    pictures += [composer.plain(k) for k in composer.keys for _ in range(2)]
    pixels = torch.from_numpy(np.stack([p.pixels for p in pictures])).permute(0, 3, 1, 2)
    ids = torch.tensor(words([p.caption for p in pictures], padding="max_length", truncation=True).input_ids)

    path = icons.work_folder() / "likeness.pt"
    model = build(len(words), end=int(words.eos_token_id))
    average = Average(model, 0.998)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05)
    step, clock = 0, Clock(args.minutes)
    if state := load(path):
        model.load_state_dict(state["model"])  # type: ignore[arg-type]
        average.model.load_state_dict(state["average"])  # type: ignore[arg-type]
        optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        step, clock = int(state["step"]), Clock(args.minutes, float(state["spent"]))  # type: ignore[arg-type]
    hit = 0.0
    while clock.fraction < 1:
        rng = torch.Generator().manual_seed(step)
        pick = torch.randint(len(pixels), (args.batch,), generator=rng)
        x = pixels[pick].float() / 127.5 - 1
        dy, dx = torch.randint(-6, 7, (2,), generator=rng).tolist()
        x = torch.roll(x, (dy, dx), (2, 3)) + 0.03 * torch.randn(x.shape, generator=rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(1.5e-3, step, clock.fraction, warmup=200)
        with autocast():
            out = model(input_ids=ids[pick], pixel_values=x)
        logits = out.logits_per_image.float()
        # Equal captions in a batch are no negatives of each other.
        same = (ids[pick][:, None] == ids[pick][None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6)
        average.update(model, step)
        hit += ((logits.argmax(1) == torch.arange(args.batch)).float().mean().item() - hit) / min(
            step + 1, 50
        )
        step += 1
        if step % 100 == 0 or clock.fraction == 1:
            print(
                f"step {step} {clock.spent / 60:.1f} min loss {loss.item():.3f} top-1 {hit:.3f}", flush=True
            )
            save(
                path,
                {
                    "model": model.state_dict(),
                    "average": average.model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "spent": clock.spent,
                },
            )


if __name__ == "__main__":
    main()
