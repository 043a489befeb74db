"""Notes go to whoever asked for the result, in whatever order threads start and end."""

from __future__ import annotations

import threading
import warnings

import pytest

from lorastyle.notes import collecting, listening, note


def test_without_a_listener_a_note_is_a_warning_that_names_its_caller() -> None:
    with pytest.warns(UserWarning, match="mind the step") as record:
        note("mind the step")
    assert record[0].filename == __file__


def test_a_listener_hears_it_and_nothing_is_warned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with collecting() as heard:
            note("one")
            note("one")
            note("two")
    assert heard == ["one", "two"]


def test_the_innermost_listener_hears_alone() -> None:
    with collecting() as outer:
        with collecting() as inner:
            note("inside")
        note("outside")
    assert (outer, inner) == (["outside"], ["inside"])


def test_threads_that_overlap_each_hear_their_own_and_leave_no_filter_behind() -> None:
    """`warnings.catch_warnings` fails here: the thread that ends last puts back what the other had set."""
    before = (list(warnings.filters), warnings.showwarning)
    first_listens, second_listens, first_ended = (threading.Event() for _ in range(3))
    heard: dict[str, list[str]] = {}

    def first() -> None:
        with collecting() as heard["first"]:
            first_listens.set()
            second_listens.wait(5)
            note("of the first")
        first_ended.set()

    def second() -> None:
        first_listens.wait(5)
        with collecting() as heard["second"]:
            second_listens.set()
            first_ended.wait(5)
            note("of the second")

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {"first": ["of the first"], "second": ["of the second"]}
    assert (list(warnings.filters), warnings.showwarning) == before


def test_a_listener_that_fails_is_not_left_behind() -> None:
    def fail(text: str) -> None:
        raise ValueError(text)

    with pytest.raises(ValueError, match="stop"), listening(fail):
        note("stop")
    with pytest.warns(UserWarning, match="after"):
        note("after")
