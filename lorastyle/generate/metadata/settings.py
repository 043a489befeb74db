"""What a picture says about how it was drawn, and what of it is at hand here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lorastyle.errors import ConfigError, LorastyleError, PictureError
from lorastyle.notes import note

from ..request import GenerateRequest
from .athand import at_hand
from .containers import Source, name_of, read_texts
from .foreign import explain_foreign, read_invokeai, refuse_json
from .infotext import read_parameters
from .own import read_own
from .recorded import Recorded, fewer


def read_settings(
    source: Source,
    *,
    changes: Mapping[str, object] | None = None,
    base: str | None = None,
    keep_missing: bool = False,
) -> tuple[GenerateRequest, list[str]]:
    """The request that draws a picture again here, and how it differs from the one that drew it.

    Adapters are looked for by their hash, under whatever name they have here, then by their name.

    Args:
        source: a PNG, JPEG or WebP: its path, its bytes, or a file opened for reading bytes.
        changes: values of a request that replace the picture's, before anything is looked for.
        base: the name of the base that will draw, where one is loaded already; another one in the picture is
            then told. None leaves the picture's own, where it can be found.
        keep_missing: leave what is not at hand (adapters, a base of the Hub, the picture it started from) in
            the request; else it is left out. Such a base would be fetched by loading it: ask first
            (`lorastyle.bases.needs_download`).

    Returns:
        The request, and a sentence for everything that is missing, was clamped, or is not understood.

    Raises:
        PictureError: no such file, no picture, a damaged one, or none with settings that can be used.
        ConfigError: `changes` that cannot be used.
    """
    recorded = _read(source)
    values, remarks = at_hand(recorded, source, changes or {}, base, keep_missing)
    request = GenerateRequest.from_dict(values)
    return request, list(fewer((*recorded.remarks, *remarks)))


def read_request(source: Source) -> GenerateRequest:
    """The request that a picture records, whether or not its adapters are at hand; of a picture made
    elsewhere, what can be understood.

    Raises:
        PictureError: as `read_settings`.

    Warns:
        UserWarning: for everything that was clamped or is not understood.
    """
    recorded = _read(source)
    for remark in fewer(recorded.remarks):
        note(f"{name_of(source)}: {remark}", stacklevel=2)
    return recorded.request


def _read(source: Source) -> Recorded:
    try:
        return _understand(read_texts(source))
    except ConfigError as error:
        problems = "; ".join(error.problems[:5])
        raise PictureError.at(name_of(source), f"the request in it cannot be used. {problems}") from error
    except LorastyleError as error:
        raise PictureError.at(name_of(source), str(error)) from error


def _understand(texts: Mapping[str, str]) -> Recorded:
    """The best of the texts: lorastyle's own, else what other tools read and write."""
    refused: LorastyleError | None = None
    if "lorastyle" in texts:
        try:
            return read_own(texts["lorastyle"])
        except LorastyleError as error:
            if "parameters" not in texts:
                raise
            refused = error
    if "parameters" in texts:
        refuse_json(texts["parameters"])
        try:
            found = read_parameters(texts["parameters"])
        except LorastyleError:
            if refused is not None:
                raise refused from None
            raise
        if refused is None:
            return found
        why = f"lorastyle's own text cannot be used, so that of other tools was read: {refused}"
        return replace(found, remarks=(why, *found.remarks))
    if "invokeai_metadata" in texts:
        return read_invokeai(texts["invokeai_metadata"])
    raise explain_foreign(texts)
