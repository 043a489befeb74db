"""Adapters by id, uploads, and what belongs to whom."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorastyle.errors import AdapterFileError
from lorastyle.ui.shelf import Card, Refused, find
from lorastyle.ui.studio import Studio
from lorastyle.ui.visitors import MOST_UPLOADS, Visitors

from .conftest import MakeAdapter


def test_the_shelf_shows_what_fits_and_says_why_others_do_not(
    studio: Studio, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    make_adapter("cat")
    make_adapter("photo", family="sd15")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    cards, refused = studio.shelf.look()
    assert list(cards) == ["cat"]
    assert sorted(r.name for r in refused) == ["broken", "photo"]
    assert not any(str(tmp_path) in r.why for r in refused)
    (tmp_path / "broken.safetensors").unlink()
    make_adapter("owl")
    assert list(studio.shelf.look()[0]) == ["cat", "owl"]


def test_an_upload_belongs_to_its_visitor_and_leaves_with_it(
    studio: Studio, visitors: Visitors, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    sent = tmp_path / "sent"
    sent.mkdir()
    file = Path(shutil.move(make_adapter("cat"), sent / "my; cat.safetensors"))
    mine, other = visitors.get("mine"), visitors.get("other")
    card = studio.take_in(mine, file)
    assert isinstance(card, Card) and not file.exists()
    assert card.path.is_relative_to(mine.folder) and card.title == "my_ cat (uploaded)"
    assert card.id in studio.cards(mine) and card.id not in studio.cards(other)
    visitors.leave("mine")
    assert not mine.folder.exists() and other.folder.exists()


def test_uploads_that_are_not_taken(
    studio: Studio, visitors: Visitors, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    visitor = visitors.get("me")
    pickle = tmp_path / "evil.ckpt"
    pickle.write_bytes(b"cos\nsystem\n")
    with pytest.raises(AdapterFileError, match="can run code"):
        studio.take_in(visitor, pickle)
    bomb = tmp_path / "bomb.safetensors"
    bomb.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    assert isinstance(studio.take_in(visitor, bomb), Refused)
    foreign = studio.take_in(visitor, make_adapter("photo", family="sd15"))
    assert isinstance(foreign, Refused) and "photo" in foreign.why
    assert not pickle.exists() and not bomb.exists() and list(visitor.folder.iterdir()) == []
    for _ in range(MOST_UPLOADS):
        assert isinstance(studio.take_in(visitor, make_adapter("cat")), Card)
    with pytest.raises(AdapterFileError, match="are the most"):
        studio.take_in(visitor, make_adapter("cat"))


def test_a_picture_finds_its_adapter_by_weights_before_the_name(
    studio: Studio, make_adapter: MakeAdapter
) -> None:
    make_adapter("cat", seed=1)
    make_adapter("renamed", seed=2)
    cards, _ = studio.shelf.look()
    digest = cards["renamed"].digest()
    assert find(cards.values(), "cat", digest) == (cards["renamed"], True)
    assert find(cards.values(), "cat", "0" * 12) == (cards["cat"], False)
    assert find(cards.values(), "owl", "0" * 12) == (None, False)
    assert find(cards.values(), "cat", None) == (cards["cat"], True)
