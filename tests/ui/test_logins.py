"""Where passwords come from, and where they never appear."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorastyle.errors import ConfigError
from lorastyle.notes import collecting
from lorastyle.ui import read_logins
from lorastyle.ui.logins import VARIABLE


def written(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    file = folder / "who.txt"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_a_flag_is_read_and_a_note_says_who_can_see_it() -> None:
    with collecting() as notes:
        assert read_logins("me:a:b", None, {}) == (("me", "a:b"),)
    assert len(notes) == 1 and "--auth-file" in notes[0] and "a:b" not in notes[0]


def test_the_environment_and_a_file_need_no_note(tmp_path: Path) -> None:
    file = written(tmp_path, b"\xef\xbb\xbf# for the studio\r\nann:one\r\n\r\nbob:two:2\n")
    with collecting() as notes:
        assert read_logins(None, None, {VARIABLE: "me:secret"}) == (("me", "secret"),)
        assert read_logins(None, file, {VARIABLE: "me:secret"}) == (("ann", "one"), ("bob", "two:2"))
        assert read_logins(None, None, {}) == read_logins(None, None, {VARIABLE: ""}) == ()
    assert notes == []


def test_a_flag_wins_over_the_environment() -> None:
    with collecting():
        assert read_logins("ann:one", None, {VARIABLE: "me:secret"}) == (("ann", "one"),)


def test_a_file_that_others_can_read_is_said(tmp_path: Path) -> None:
    with collecting() as notes:
        assert read_logins(None, written(tmp_path, b"me:secret", 0o644), {}) == (("me", "secret"),)
    assert len(notes) == 1 and "chmod 600" in notes[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ann:secret\nbob\n:secret\n", ["line 2", "line 3"]),
        (b"ann:secret\nann:secret2\n", ["line 2", '"ann" is there twice']),
        (b"# nobody\n", ["names nobody"]),
        (b"ann:\xffsecret", ["UTF-8"]),
        (b"x" * 100_001, ["small text file"]),
    ],
)
def test_what_a_file_cannot_be(tmp_path: Path, content: bytes, said: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        read_logins(None, written(tmp_path, content), {})
    assert all(part in str(error.value) for part in said)
    assert "secret" not in str(error.value) and error.value.__cause__ is None


@pytest.mark.parametrize("login", ["me", ":secret", "me:", ""])
def test_what_a_flag_cannot_be(login: str) -> None:
    with pytest.raises(ConfigError, match=r"--auth: .user:password. is needed") as error:
        read_logins(login, None, {})
    assert "secret" not in str(error.value)


def test_a_file_that_is_not_there_and_two_places_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_logins(None, tmp_path / "nowhere", {})
    with pytest.raises(ConfigError, match="both given"):
        read_logins("me:secret", tmp_path / "nowhere", {})
