"""Publishing an adapter: what would be sent is prepared first, to be looked at, then sent in one commit."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorastyle.adapters import (
    CONFIGS,
    adapter_folder_files,
    is_adapter_folder,
    read_header,
    read_info,
    set_metadata,
    without_private,
)
from lorastyle.errors import HubError, PictureError

from .card import Shown, model_card
from .names import split_hub_id
from .reasons import why

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CARD = "README.md"
_MOST_SIDE = 2048  # pixels of a gallery's picture


@dataclass(frozen=True)
class Example:
    """A picture that the adapter drew, and its prompt."""

    picture: Path
    text: str


@dataclass(frozen=True)
class Upload:
    """What is to be sent: {path in the repository: a file here, or its bytes}; the card is one of them."""

    repo: str
    files: Mapping[str, Path | bytes]
    cleaned: tuple[str, ...]  # metadata that is left out, by name

    @property
    def card(self) -> str:
        content = self.files[CARD]
        assert isinstance(content, bytes)
        return content.decode()

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }


@dataclass(frozen=True)
class Published:
    """Where it is, whether only its owner sees it, and whether the card that was there was left."""

    url: str
    private: bool
    card_kept: bool


@contextmanager
def prepared(
    source: str | os.PathLike[str],
    repo: str,
    *,
    base_model: str | None = None,
    license: str | None = None,
    examples: Sequence[Example] = (),
    keep_private: bool = False,
) -> Generator[Upload]:
    """What would be sent, while the block lasts; nothing of it is, and no network is asked.

    Captions, folder names and paths in the adapter's metadata are left out of what is sent, and so is
    everything that a picture carries besides its pixels. The files here stay as they are.

    Args:
        source: an adapter file, or a peft folder.
        repo: "owner/name".
        base_model: as in `model_card`.
        examples: the gallery, in its order.
        keep_private: send the adapter's metadata as they are.

    Raises:
        HubError: `repo` or `base_model` is no Hub id.
        AdapterFileError: the adapter is damaged.
        PictureError: a picture cannot be read.
    """
    for what, name in (("repository", repo), ("base model", base_model)):
        if name is not None and split_hub_id(name) != (name, None):
            raise HubError(
                f"{name!r} is no {what} of the Hub; one is called owner/name, such as ada/stickers."
            )
    source = Path(source)
    info = read_info(source)
    if not keep_private:
        info = replace(info, recipe=without_private(info.recipe))
    pictures = {f"pictures/{i:02}.png": _pixels(one.picture) for i, one in enumerate(examples, 1)}
    gallery = [Shown(path, one.text) for path, one in zip(pictures, examples, strict=True)]
    with tempfile.TemporaryDirectory(prefix="lorastyle-") as folder:
        files, cleaned = _weights(source, Path(folder), keep_private)
        file = "" if is_adapter_folder(source) else next(iter(files))
        card = model_card(info, repo, file, base_model=base_model, license=license, gallery=gallery)
        yield Upload(repo, {CARD: card.encode(), **files, **pictures}, cleaned)


def publish(upload: Upload, *, public: bool = False, replace_card: bool = False) -> Published:
    """Send it: the repository is made if it is not there, and all files arrive in one commit.

    Args:
        public: for everybody to see; a repository that is there already stays what it is.
        replace_card: write a new card where there is one.

    Raises:
        HubError: everybody would see it without `public`; no token, no right to write, no network.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    try:
        there = _there(api, upload.repo)
        if there is not None and not there.private and not public:
            raise HubError(
                f"{upload.repo} is there already and everybody sees it. Add --public if that is meant, or "
                "name another repository."
            )
        known = {item.rfilename for item in there.siblings or ()} if there is not None else set[str]()
        kept = CARD in known and not replace_card
        if there is None:
            api.create_repo(upload.repo, private=not public)
        operations = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
            for name, content in upload.files.items()
            if not (kept and name == CARD)
        ]
        api.create_commit(upload.repo, operations, commit_message="Upload an adapter with lorastyle")
        private = bool(there.private) if there is not None else not public
        return Published(f"{api.endpoint}/{upload.repo}", private, kept)
    except HubError:
        raise
    except Exception as error:  # httpx, requests and huggingface_hub each raise kinds of their own
        reason = why(error, upload.repo, None, api, doing="sending it")
        raise HubError(f"{upload.repo} was not published; {reason} The same command tries again.") from error


def _there(api: HfApi, repo: str) -> Any:
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return api.model_info(repo)
    except RepositoryNotFoundError:
        return None


def _weights(
    source: Path, folder: Path, keep_private: bool
) -> tuple[dict[str, Path | bytes], tuple[str, ...]]:
    """The adapter's files, those with something private as copies without it; and what that was."""
    if not is_adapter_folder(source):
        files = {source.name: source}
    else:
        names = [str(f.relative_to(source).as_posix()) for f in source.rglob("*") if f.is_file()]
        files = {name: source / name for name in adapter_folder_files(names)}
    ready: dict[str, Path | bytes] = {}
    cleaned: list[str] = []
    for name, path in files.items():
        if keep_private:
            ready[name] = path
        elif name in CONFIGS:
            ready[name], gone = _clean_config(path)
            cleaned += gone
        else:
            ready[name], gone = _clean_copy(path, folder / name)
            cleaned += gone
    return ready, tuple(dict.fromkeys(cleaned))


def _clean_copy(path: Path, copy: Path) -> tuple[Path, list[str]]:
    metadata = read_header(path).metadata
    kept = without_private(metadata)
    if not (changed := [key for key, value in metadata.items() if kept.get(key) != value]):
        return path, []
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(path.read_bytes())
    set_metadata(copy, {key: kept.get(key) for key in changed})
    return copy, changed


def _clean_config(path: Path) -> tuple[Path | bytes, list[str]]:
    config = json.loads(path.read_text("utf-8"))
    texts = {key: value for key, value in config.items() if isinstance(value, str)}
    kept = without_private(texts)
    if not (changed := [key for key, value in texts.items() if kept.get(key) != value]):
        return path, []
    return json.dumps(config | {key: kept.get(key) for key in changed}, indent=2).encode(), changed


def _pixels(path: Path) -> bytes:
    """The picture as PNG, and nothing that it carried."""
    # Here, for its decoders: every command imports this package, for its names.
    from lorastyle.pictures import Unusable, open_picture

    try:
        picture = open_picture(path).image.convert("RGB")
    except (OSError, Unusable) as error:
        raise PictureError.at(path, f"the picture cannot be read ({error}).") from error
    picture.thumbnail((_MOST_SIDE, _MOST_SIDE))
    picture.info.clear()
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return data.getvalue()
