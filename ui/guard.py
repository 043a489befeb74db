"""Who may speak to the server: no other name for this machine, and no other site's page.

Without the first, a site whose name was made to mean 127.0.0.1 could read the page (DNS rebinding); without
the second, any site that is open in the same browser could fill the disk with uploads.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def host_of(header: str) -> str:
    """`LocalHost:7860` -> `localhost`, `[::1]:7860` -> `::1`; nothing where it is no host."""
    try:
        return urlsplit(f"//{header.strip()}").hostname or ""
    except ValueError:
        return ""


class Guard:
    """ASGI middleware: 400 for a foreign Host, 403 for what a foreign page sends to change something.

    Args:
        app: what is guarded.
        hosts: names by which this server may be called; one that begins with "." means all below it.
        addresses: whether any IP address will do as well: an address cannot be rebound.
    """

    def __init__(self, app: App, hosts: Iterable[str] = LOOPBACK, addresses: bool = False) -> None:
        self.app = app
        self._hosts = frozenset(name.lower() for name in hosts)
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, text = refusal
            body = f"{text}\n".encode()
            headers = [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(body)),
            ]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        host = headers.get("host", "")
        if not self._known(host_of(host)):
            return 400, "This server does not go by that name. Open the address that it printed."
        if scope.get("method") in _READING:
            return None
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit_netloc(origin) != host.strip().lower()
        if foreign or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return 403, "Another site's page may not do this."
        return None

    def _known(self, name: str) -> bool:
        if name in self._hosts or any(h.startswith(".") and name.endswith(h) for h in self._hosts):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._addresses


def urlsplit_netloc(origin: str) -> str:
    """`https://Host:1` -> `host:1`; what is no origin is none of ours."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
