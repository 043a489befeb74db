"""What samples and the sheet draw, and what class pictures show: things that are not among the pictures."""

from __future__ import annotations

from collections.abc import Sequence

from lorastyle.bases import as_prompt

from .captions import article, has_word, style_prompt
from .config import TrainConfig
from .dataset import Dataset

SUBJECTS = (
    "a fish",
    "a red apple",
    "a mushroom",
    "a rocket",
    "a tree",
    "a car",
    "a house",
    "a cat",
    "a rose",
    "a bear",
    "a cup of coffee",
    "a dog",
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
    "{one} in the corner",
    "{one} and a cat",
)


CONTEXTS = (
    "{one}",
    "{one} on a red background",
    "a small {name}",
    "{one} and a dog",
    "{one} on a black background",
    "{one} and a house",
    "a small {name} on a yellow background",
    "{one} and a flower",
)


def class_prompts(dataset: Dataset) -> tuple[str, ...]:
    """What class pictures show, without the trigger; empty where nothing is known of it.

    Of a style, what its captions say. Of a subject, its class in several surroundings, so that training on
    a handful of like pictures does not unlearn size, place and company.
    """
    if dataset.kind == "subject" and dataset.class_name:
        return in_settings(CONTEXTS, dataset.class_name)
    return tuple(dict.fromkeys(s.class_prompt for s in dataset.used if s.class_prompt))


def in_settings(settings: Sequence[str], name: str) -> tuple[str, ...]:
    """The name filled into each setting: `a cat on a blue background`, `a small cat`."""
    return tuple(setting.format(one=article(name), name=name) for setting in settings)


def sample_prompts(config: TrainConfig, dataset: Dataset, count: int) -> tuple[str, ...]:
    """`count` prompts, or all of the user's own with "{trigger}" filled in."""
    trigger = as_prompt(dataset.trigger)
    if config.sample_prompts:
        return tuple(prompt.replace("{trigger}", trigger) for prompt in config.sample_prompts)
    if dataset.kind == "subject":
        name = f"{trigger} {as_prompt(dataset.class_name)}".strip()
        return in_settings(SETTINGS[:count], name)
    captions = " ".join(sample.caption.text for sample in dataset.used)
    unseen = [subject for subject in SUBJECTS if not has_word(captions, subject.split()[-1])]
    return tuple(style_prompt(subject, trigger) for subject in (unseen or SUBJECTS)[:count])
