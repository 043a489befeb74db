"""What an item means on this machine: its files found, and the hashes of what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lorastyle.adapters import file_hash, model_hash
from lorastyle.errors import ConfigError, LorastyleError, PictureError
from lorastyle.generate import AdapterUse, GenerateRequest, fetched
from lorastyle.library import find_adapter

from .expand import Item, digest
from .places import Problem


@dataclass(frozen=True)
class Job:
    """One picture to draw here.

    Attributes:
        id: hex digits of the request with the hashes of its adapters and pictures, whatever they are called:
            another adapter under the same name makes another picture.
        item: where it comes from, and its file's name.
        request: with the paths as they are found from here.
    """

    id: str
    item: Item
    request: GenerateRequest


def _identity(use: AdapterUse) -> list[object]:
    """What of an adapter's use makes the picture another one."""
    options = use.options()
    if (region := use.region) and region.picture is not None:
        options["mask"] = str(replace(region, picture=use.mask_hash))
    return [Path(use.name).stem, use.scale, use.hash, *([options] if options else [])]


def resolve(items: Iterable[Item], folder: Path) -> tuple[list[Job], list[Problem]]:
    """A job for each item, or the reason why it cannot be drawn.

    Args:
        folder: where relative paths are looked for first, before the working directory.
    """
    files = _Files(folder)
    jobs: list[Job] = []
    problems: list[Problem] = []
    for item in items:
        try:
            jobs.append(files.resolve(item))
        except LorastyleError as error:
            problems.append(Problem(item.place, str(error)))
    return jobs, list(dict.fromkeys(problems))


class _Files:
    """Finds and hashes each file once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._adapters: dict[str, tuple[str, str] | LorastyleError] = {}
        self._pictures: dict[str, tuple[str, str] | LorastyleError] = {}

    def resolve(self, item: Item) -> Job:
        asked = item.request
        uses = tuple(self._adapter(use) for use in asked.adapters)
        init, init_hash = self._picture(asked.init)
        mask, mask_hash = self._picture(asked.mask)
        values = asked.to_dict()
        # What a file is called does not matter for the picture, but for the word LCM in an adapter's name.
        values["adapters"] = [_identity(use) for use in uses]
        values |= {"init": init_hash, "mask": mask_hash}
        request = asked
        if uses or init is not None:
            request = replace(
                asked, adapters=uses, init=init, init_hash=init_hash, mask=mask, mask_hash=mask_hash
            )
        if asked.base is not None and asked.base != "embedded":
            request = replace(request, base=self._beside(asked.base))
        return Job(digest(values), item, request)

    def _adapter(self, use: AdapterUse) -> AdapterUse:
        found = self._adapters.get(use.name)
        if found is None:
            try:
                bare = Path(use.name).name == use.name and not use.name.endswith(".safetensors")
                name = use.name if bare else self._beside(use.name)
                name = fetched(replace(use, name=name)).name
                path = find_adapter(name, use.hash)
                found = name, model_hash(path)[:12]
            except LorastyleError as error:
                found = error
            self._adapters[use.name] = found
        if isinstance(found, LorastyleError):
            raise found
        if use.hash is not None and use.hash != found[1]:
            raise ConfigError(
                f'The adapter "{use.name}" has the weights {found[1]}, the manifest asks for {use.hash}. '
                "Take out the hash, or bring the file."
            )
        return self._mask(replace(use, name=found[0], hash=found[1]))

    def _mask(self, use: AdapterUse) -> AdapterUse:
        region = use.region
        if region is None or region.picture is None:
            return use
        path, digest = self._picture(region.picture)
        return replace(use, mask=str(replace(region, picture=path)), mask_hash=digest)

    def _picture(self, name: str | None) -> tuple[str | None, str | None]:
        if name is None:
            return None, None
        found = self._pictures.get(name)
        if found is None:
            path = self._beside(name)
            try:
                found = path, file_hash(Path(path).expanduser())[:12]
            except OSError as error:
                found = PictureError.at(name, f"the picture cannot be read ({error.strerror or error}).")
            self._pictures[name] = found
        if isinstance(found, LorastyleError):
            raise found
        return found

    def _beside(self, name: str) -> str:
        """The path that a name means: beside the manifest where there is such a file, else as it is."""
        try:
            beside = self._folder / name
            return str(beside) if beside.exists() else name
        except (OSError, ValueError):
            return name
