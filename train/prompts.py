"""What samples and the sheet draw: things that are not among the pictures, in the way they were captioned."""

from __future__ import annotations

from .captions import article, has_word, style_prompt
from .config import TrainConfig
from .dataset import Dataset

SUBJECTS = (
    "a dog",
    "a house",
    "a tree",
    "a red apple",
    "a fish",
    "a car",
    "a mushroom",
    "a rocket",
    "a cat",
    "a rose",
    "a bear",
    "a cup of coffee",
    "a pizza",
    "a bird",
    "an umbrella",
    "a crown",
)
SETTINGS = (
    "{one}",
    "{one} on a blue background",
    "a small {name}",
    "{one} and a tree",
    "a green {name}",
    "{one} on a yellow background",
    "two {name}s",
    "{one} and a cat",
)


def sample_prompts(config: TrainConfig, dataset: Dataset, count: int) -> tuple[str, ...]:
    """`count` prompts, or all of the user's own with "{trigger}" filled in."""
    if config.sample_prompts:
        return tuple(prompt.replace("{trigger}", dataset.trigger) for prompt in config.sample_prompts)
    if dataset.kind == "subject":
        name = f"{dataset.trigger} {dataset.class_name}".strip()
        return tuple(setting.format(one=article(name), name=name) for setting in SETTINGS[:count])
    captions = " ".join(sample.caption.text for sample in dataset.used)
    unseen = [subject for subject in SUBJECTS if not has_word(captions, subject.split()[-1])]
    return tuple(style_prompt(subject, dataset.trigger) for subject in (unseen or SUBJECTS)[:count])
