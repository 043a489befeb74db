"""Who is let in: the names of the server, the pages of other sites, and what needs a password."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lorastyle.errors import ConfigError
from lorastyle.ui import Options
from lorastyle.ui.guard import Guard, Receive, Scope, Send


def answer(
    method: str = "GET", kind: str = "http", guard: dict[str, Any] | None = None, **headers: str
) -> Any:
    """The status that a guarded server gives; 200 is that of the server itself."""
    sent: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {"type": kind, "method": method, "headers": raw}
    asyncio.run(Guard(app, **(Options().guard() if guard is None else guard))(scope, receive, send))
    return sent[0].get("status") or sent[0].get("code")


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "LocalHost:7860", "[::1]:7860", "localhost"])
def test_this_machine_by_its_names(host: str) -> None:
    assert answer(host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.5", "[", "", "a@b:c:d"],
)
def test_no_other_name(host: str) -> None:
    assert answer(host=host) == 400
    assert answer(kind="websocket", host=host) == 1008


def test_a_missing_host_is_no_host() -> None:
    assert answer() == 400


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"origin": "http://127.0.0.1:7860"}, 200),
        ("POST", {}, 200),
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "http://127.0.0.1:9999"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("PUT", {"origin": "http://["}, 403),
        ("POST", {"sec_fetch_site": "cross-site"}, 403),
        ("POST", {"sec_fetch_site": "same-origin"}, 200),
        ("GET", {"origin": "http://evil.example"}, 200),
    ],
)
def test_other_pages_change_nothing(method: str, headers: dict[str, str], status: int) -> None:
    assert answer(method, guard=None, host="127.0.0.1:7860", **headers) == status


def test_listening_lets_addresses_and_named_hosts_in() -> None:
    guard = Options(listen=True, logins=(("a", "b"),), hosts=("studio.lan",)).guard()
    assert [answer(guard=guard, host=h) for h in ("192.168.0.5:7860", "studio.lan", "evil.example")] == [
        *(200, 200, 400)
    ]
    shared = Options(share=True, logins=(("a", "b"),)).guard()
    assert [answer(guard=shared, host=h) for h in ("x.gradio.live", "gradio.live.evil.example")] == [200, 400]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"listen": True}, "--listen lets others in.* --auth-file"),
        ({"share": True}, "--share lets others in.* LORASTYLE_AUTH"),
        ({"port": 70000}, "--port is 70000"),
        ({"max_upload": 0}, "--max-upload"),
    ],
)
def test_what_cannot_be_served(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Options(**options)
