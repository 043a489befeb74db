"""`lorastyle version`: the first lines of `lorastyle doctor`. Never imports torch."""

from __future__ import annotations

from lorastyle.doctor import look_at_software, private

from .console import say
from .findings import software_rows


def version() -> None:
    """Print the versions only."""
    for name, found, _ in software_rows(private(look_at_software())):
        say(f"{name:16} {found}")
