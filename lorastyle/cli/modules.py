"""Which modules the names in a file may mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorastyle.adapters import FAMILIES, known_modules, read_info
from lorastyle.errors import AdapterError, BaseMismatchError, LorastyleError
from lorastyle.notes import collecting

if TYPE_CHECKING:
    from lorastyle.adapters import Modules

OWN = "lorastyle-icons"  # the family of the embedded base


def modules_for(file: Path, base: str | None) -> Modules:
    """Those of the base that is named, else those of the family that the file was made for.

    Raises:
        AdapterError: neither is known.
        BaseError: the base cannot be loaded.
    """
    if base is None and read_info(file).family == OWN:
        base = "embedded"
    if base is None:
        try:
            return known_modules(file)
        except BaseMismatchError:  # no base would help
            raise
        except AdapterError as error:
            listed = ", ".join(f.title for f in FAMILIES.values() if f.text_width)
            raise AdapterError(f"{error} Use --base; none is needed for {listed}.") from error
    from lorastyle.bases import load_base

    return load_base(base).module_shapes()


def converts(file: Path, base: str | None) -> bool:
    """Whether `convert` and `resize` would read all of a file: it is read as they read it."""
    from lorastyle.adapters import check_convertible

    try:
        with collecting():
            check_convertible(file, modules_for(file, base))
    except LorastyleError:
        return False
    return True
