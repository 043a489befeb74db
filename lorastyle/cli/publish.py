"""`lorastyle publish`: an adapter on the Hugging Face Hub, with its card and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lorastyle.adapters import SHEET
from lorastyle.errors import AdapterError, ConfigError, PictureError
from lorastyle.pictures import SUFFIXES

from .console import file_size, note, say

if TYPE_CHECKING:
    from lorastyle.hub import Example


def publish(
    source: Path,
    repo: str,
    /,
    *,
    picture: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    base_model: str | None = None,
    license: str | None = None,
    public: Annotated[bool, Parameter(negative="")] = False,
    replace_card: Annotated[bool, Parameter(negative="")] = False,
    private: Annotated[bool, Parameter(name="--keep-private", negative="")] = False,
    yes: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Put an adapter on the Hugging Face Hub, with a model card and a gallery.

    What would be sent is shown, and nothing is sent without --yes; then only you see it unless you say
    --public. Captions, folder names and paths are left out of the adapter, and everything but the pixels out
    of the pictures.

    Args:
        source: an adapter file, a peft folder, or a folder with one adapter and pictures that it drew.
        repo: owner/name; it is made if it is not there.
        picture: for the gallery, after the before/after sheet that lies beside the adapter; can be given many
            times. Pictures of lorastyle, A1111 and others bring their prompts.
        base_model: the Hub id of what it was made for; the one that stands for its family if left out.
        license: an id of the Hub's list, such as openrail++ or cc-by-4.0.
        public: let everybody see it.
        replace_card: write the card anew where the repository has one; it is left as it is otherwise.
        private: send captions, folder names and paths as well.
        yes: send it.
    """
    from lorastyle import hub

    adapter, beside = _adapter(source)
    examples = _examples(adapter, [*picture, *beside])
    with hub.prepared(
        adapter, repo, base_model=base_model, license=license, examples=examples, keep_private=private
    ) as upload:
        _show(upload.sizes(), upload.card, upload.cleaned)
        if not yes:
            say()
            say(f"Nothing was sent. To send it, for {'all' if public else 'you alone'} to see: add --yes")
            return
        done = hub.publish(upload, public=public, replace_card=replace_card)
    if done.card_kept:
        note("The card that is there was left as it is; --replace-card writes it anew.")
    if done.private and public:
        note("The repository was private before and still is; its settings on the Hub make it public.")
    say()
    say(f"Published{', for you alone to see' if done.private else ''}: {done.url}")
    say(f'Draw with it: lorastyle generate "..." -a {repo}')


def _show(sizes: dict[str, int], card: str, cleaned: Sequence[str]) -> None:
    width = max(len(name) for name in sizes)
    for name, size in sizes.items():
        say(f"{name:<{width}}  {file_size(size)}")
    if cleaned:
        note(f"Left out of the adapter: {', '.join(cleaned)}. --keep-private sends it too.")
    say()
    say("README.md:")
    for line in card.splitlines():
        say(f"  {line}".rstrip())


def _adapter(source: Path) -> tuple[Path, list[Path]]:
    """The adapter that `source` is or holds, and the pictures in its folder, where a folder was named."""
    from lorastyle.adapters import is_adapter_folder

    if not source.is_dir() or is_adapter_folder(source):
        return source, []
    found = sorted(source.glob("*.safetensors"))
    if len(found) != 1:
        there = ", ".join(file.name for file in found[:10]) or "none"
        raise AdapterError.at(
            source, f"one adapter is published at a time; there is: {there}. Name its file."
        )
    pictures = [file for file in sorted(source.iterdir()) if file.suffix.lower() in SUFFIXES]
    return found[0], [file for file in pictures if not file.name.endswith(SHEET)]


def _examples(adapter: Path, pictures: Sequence[Path]) -> list[Example]:
    from lorastyle.hub import Example

    sheet = adapter.with_suffix(SHEET)
    first = Example(sheet, "without and with the adapter, the same prompts and seeds")
    given = [Example(picture, _prompt(picture)) for picture in dict.fromkeys(pictures)]
    return [first, *given] if sheet.is_file() else given


def _prompt(picture: Path) -> str:
    from lorastyle.generate import read_settings

    try:
        return read_settings(picture, keep_missing=True)[0].prompt or "-"
    except (PictureError, ConfigError):  # it says nothing of how it was drawn
        return "-"
