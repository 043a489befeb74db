"""What people call things of the Hugging Face Hub: "owner/name", "owner/name@revision/file.safetensors"."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REPO = r"[A-Za-z0-9][\w.-]*/[\w.-]+"
_HUB_ID = re.compile(rf"({_REPO})(?:@([\w.-]+(?:/[\w.-]+)*))?")
# The revision is a branch, a tag or a commit, or a pull request; any other slash begins a file's path.
_ADAPTER = re.compile(
    rf"(?P<repo>{_REPO})(?:@(?P<revision>refs/pr/\d+|[\w.-]+))?(?:/(?P<file>[^\\:?*\"<>|\x00-\x1f]+\.safetensors))?"
)
_WEIGHTS = (".safetensors", ".ckpt")


def split_hub_id(name: str) -> tuple[str, str | None] | None:
    """("owner/name", revision or None) of "owner/name" and "owner/name@revision"; None of anything else."""
    match = _HUB_ID.fullmatch(name)
    if match is None or name.lower().endswith(_WEIGHTS) or _leads_away(name):
        return None
    return match[1], match[2]


@dataclass(frozen=True)
class HubAdapter:
    """An adapter in a repository of the Hub.

    Attributes:
        repo: "owner/name".
        revision: a branch, tag, commit or "refs/pr/7"; None is the main branch.
        file: its path in the repository; None is the one that is there.
    """

    repo: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, name: str) -> HubAdapter | None:
        """Of "owner/name", with "@revision" and "/file.safetensors" or not; None of anything else."""
        match = _ADAPTER.fullmatch(name)
        if match is None or match["repo"].lower().endswith(_WEIGHTS) or _leads_away(name):
            return None
        return cls(match["repo"], match["revision"], match["file"])

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{at}/{self.file}" if self.file else f"{self.repo}{at}"


def _leads_away(name: str) -> bool:
    """Whether a part of it is no name of a file or folder, but a way out of one."""
    return any(part in ("", ".", "..") for part in re.split("[/@]", name))
