"""One sentence for what went wrong with the Hub, wherever in the chain of causes it is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lorastyle.errors import near_miss

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NO_NETWORK = r"Connect|Timeout|NameResolution|LocalEntryNotFound|Protocol|ReadError|Incomplete"


def why(
    error: Exception,
    repo: str,
    revision: str | None,
    api: HfApi,
    *,
    doing: str = "fetching it",
    instead: str = "",
) -> str:
    """The cause and the next step, to follow "...; ".

    Args:
        error: what huggingface_hub raised; httpx, requests and it each have kinds of their own.
        repo, revision: what was asked for.
        doing: for a cause that is not known here.
        instead: what else people can do without the Hub, to end a sentence with.
    """
    from huggingface_hub import get_token

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    kinds = " ".join(type(item).__name__ for item in chain)
    text = " ".join(str(item) for item in chain)
    instead = f", or {instead}" if instead else ""
    if "Gated" in kinds:
        page = f"{api.endpoint}/{repo}"
        return f"on the Hub it is gated. Accept its terms on its page ({page}), then `hf auth login`."
    if "RevisionNotFound" in kinds:
        return f'on the Hub it has no revision "{revision}". {_revisions(repo, revision, api)}'
    if "RepositoryNotFound" not in kinds and ("LocalTokenNotFound" in kinds or re.search(r"\b401\b", text)):
        if get_token() is None:
            return "it asks who you are: `hf auth login`, or set HF_TOKEN."
        return "the Hub does not accept the token. `hf auth login` with a new one, or unset HF_TOKEN."
    if "Invalid credentials" in text or "Invalid user token" in text:
        return "the Hub does not accept the token. `hf auth login` with a new one, or unset HF_TOKEN."
    if re.search(r"\b403\b", text):
        return f"the token may not write to {repo}. `hf auth login` with one that may."
    if "RepositoryNotFound" in kinds or re.search(r"\b404\b", text):
        return "the Hub has no such public model. Check the spelling; for a private one, `hf auth login`."
    if "Offline" in kinds:
        return f"the Hub is switched off by HF_HUB_OFFLINE. Unset it{instead}."
    if re.search(_NO_NETWORK, kinds):
        return f"the Hub cannot be reached. Check the network and try again{instead}."
    if isinstance(cause := chain[-1], OSError) and cause.filename is not None:
        return (
            f"its cache cannot be used ({cause.strerror}: {cause.filename}). Let HF_HOME name a folder that "
            "you may write to."
        )
    return f"{doing} failed: {str(error).splitlines()[0] if str(error) else kinds}"


def _revisions(repo: str, revision: str | None, api: HfApi) -> str:
    try:
        refs = api.list_repo_refs(repo)
    except Exception:  # the sentence is as good without the list
        return "Leave @ and what follows away for its main branch."
    known = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f"It has {', '.join(known)}.{near_miss(revision or '', known)}"
