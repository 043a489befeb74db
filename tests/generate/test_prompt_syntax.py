"""What A1111's documentation and the examples of its prompt parser say that a prompt comes to."""

from __future__ import annotations

import pytest

from lorastyle.bases.emphasis import spans
from lorastyle.errors import ConfigError
from lorastyle.generate.prompt_plan import Plan, Texts, is_plain
from lorastyle.generate.prompt_syntax import as_words, compose, parse, schedule
from lorastyle.notes import collecting


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3 ]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [b::.5] c", [(5, "a b c"), (10, "a  c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a|(b:1.1)]", [(i, ("a", "(b:1.1)")[(i - 1) % 2]) for i in range(1, 11)]),
        ("[fe|]male", [(i, ("female", "male")[(i - 1) % 2]) for i in range(1, 11)]),
        (
            "[fe|||]male",
            [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
        ),
        ("[a|[b:c:5]]", [(i, "a" if i % 2 else "b" if i <= 5 else "c") for i in range(1, 11)]),
        ("[[a|b]:c:0.2]", [(1, "a"), (2, "b"), (10, "c")]),
        # a point makes a share of the steps, no point makes a step, whatever the number
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:1.]", [(10, "a")]),
        ("[a:b:0.0]", [(10, "b")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-1]", [(10, "b")]),
        ("[a:b:+0.5]", [(5, "a"), (10, "b")]),
        ("[a:b:1e0]", [(1, "a"), (10, "b")]),
        ("[a:b:0.29]", [(2, "a"), (10, "b")]),
        ("[a:b:99]", [(10, "a")]),
        ("[10:30]", [(10, "")]),
        # what surrounds an edit, or is in it
        ("[[a:b:3]", [(3, "[a"), (10, "[b")]),
        ("[a:b:3]]", [(3, "a]"), (10, "b]")]),
        ("(big [a:b:3]:1.2) c", [(3, "(big a:1.2) c"), (10, "(big b:1.2) c")]),
        ("http://x.y [a:b:3]", [(3, "http://x.y a"), (10, "http://x.y b")]),
        (r"[a\:b:c:3]", [(3, r"a\:b"), (10, "c")]),
        (r"[a\]:b:3]", [(3, r"a\]"), (10, "b")]),
        # more colons than that, no number, or a bracket without its partner: text
        ("[a:b:c:0.5]", [(10, "[a:b:c:0.5]")]),
        ("[a|b:0.5]", [(10, "[a|b:0.5]")]),
        ("[a:b]", [(10, "[a:b]")]),
        ("[a:b:c]", [(10, "[a:b:c]")]),
        ("[a (b:c:3]", [(10, "[a (b:c:3]")]),
        ("[(a]:b:3)", [(10, "[(a]:b:3)")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b] c", [(10, "a [b] c")]),
        (r"\[a:b:3\]", [(10, r"\[a:b:3\]")]),
        (r"\[a|b\]", [(10, r"\[a|b\]")]),
        ("hero \\(series\\), [artist], 10:30, https://a.b/c?d=[e]", None),
        ("a|b", None),
        ("a\\", None),
        ("", None),
    ],
)
def test_what_is_read_up_to_which_of_ten_steps(prompt: str, expected: list[tuple[int, str]] | None) -> None:
    assert schedule(prompt, 10) == (expected or [(10, prompt)])


def test_the_example_of_the_documentation() -> None:
    prompt = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]"
    )
    assert schedule(prompt, 100) == [
        (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
        (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
        (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
        (75, "fantasy landscape with a lake and an oak in background masterful"),
        (100, "fantasy landscape with a lake and a christmas tree in background masterful"),
    ]


@pytest.mark.parametrize(
    ("prompt", "first", "hires"),
    [
        ("[a:b:.5]", [(5, "a"), (10, "b")], [(4, "b")]),
        ("[a:b:1.5]", [(10, "a")], [(2, "a"), (4, "b")]),
        ("[a:b:1.0]", [(10, "a")], [(4, "b")]),
        ("[a:b:2.0]", [(10, "a")], [(4, "a")]),
        ("[a:b:5]", [(5, "a"), (10, "b")], [(4, "b")]),
        ("[a:b:11]", [(10, "a")], [(1, "a"), (4, "b")]),
        ("[a:b:15]", [(10, "a")], [(4, "a")]),
        (
            "[a|b|c]",
            [(i, "abc"[(i - 1) % 3]) for i in range(1, 11)],
            [(1, "a"), (2, "b"), (3, "c"), (4, "a")],
        ),
    ],
)
def test_a_hires_pass_counts_on(
    prompt: str, first: list[tuple[int, str]], hires: list[tuple[int, str]]
) -> None:
    assert schedule(prompt, 10) == first
    assert schedule(prompt, 4, first_pass=10) == hires


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat AND a dog", [("a cat", 1.0), (" a dog", 1.0)]),
        ("a cat :1.2 AND a dog AND a penguin :2.2", [("a cat", 1.2), (" a dog", 1.0), (" a penguin", 2.2)]),
        ("a:0.7 AND b:0.5 AND c:-.2", [("a", 0.7), (" b", 0.5), (" c", -0.2)]),
        ("a : 2.  AND b", [("a", 2.0), (" b", 1.0)]),
        ("a\nAND\nb : +1", [("a", 1.0), ("\nb", 1.0)]),
        ("a AND (b:1.2)", [("a", 1.0), (" (b:1.2)", 1.0)]),
        ("a AND [b:c:0.5]", [("a", 1.0), (" [b:c:0.5]", 1.0)]),
        ("(a AND b:1.2)", [("(a", 1.0), (" b:1.2)", 1.0)]),
        ("a,AND,b", [("a,", 1.0), (",b", 1.0)]),
        ("a AND", [("a", 1.0), ("", 1.0)]),
        ("a AND b AND b:0.5", [("a", 1.0), (" b", 1.5)]),
        ("AND AND", [("", 3.0)]),
        ("a AND b:" + "9" * 400, [("a", 1.0), (" b", 100.0)]),
        ("a AND b:1e3", [("a", 1.0), (" b:1e3", 1.0)]),
        ("a AND b:c", [("a", 1.0), (" b:c", 1.0)]),
        # negative controls: these have no AND
        ("a and b", [("a and b", 1.0)]),
        ("BRAND ANDROID STAND_AND", [("BRAND ANDROID STAND_AND", 1.0)]),
        ("at 10:30", [("at 10:30", 1.0)]),
        ("a :1.2 ", [("a :1.2 ", 1.0)]),
    ],
)
def test_and_joins_prompts_with_weights(prompt: str, expected: list[tuple[str, float]]) -> None:
    assert compose(prompt) == expected


def test_what_stays_as_it_is() -> None:
    for prompt in ("a cat", "[artist]", "(a:1.3) [b] 10:30 [c:d]", "a and b", "a BREAK b", "a|b"):
        assert is_plain(prompt) and is_plain("", prompt)
    for prompt in ("[a:1]", "[a|b]", "[:]:b:.5] [c:3]"):
        assert not is_plain(prompt) and not is_plain("", prompt)
    assert not is_plain("a AND b") and is_plain("", "a AND b")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        "]" * 10_000,
        "[a|" * 3_000,
        "[(" * 2_500 + "])" * 2_500,
        "[" * 4_999 + "a" + "]" * 4_999,
        "\\" * 9_999,
        "[a:b:" + "9" * 9_000 + "]",
        "[a:b:0." + "9" * 9_000 + "]",
        "[a:b:1e999999999]",
        "[a:b:-1.e99]",
        "[a:\x00:\ud800:0.5]",
        "AND" * 3_000 + ":" * 900,
        "a:" + " " * 9_000 + "AND" + " " * 900 + ":1",
    ],
)
def test_no_text_is_an_error(text: str) -> None:
    for said in (schedule(text, 30), schedule(text, 7, first_pass=30)):
        ends = [end for end, _ in said]
        assert ends == sorted(set(ends)) and ends[-1] in (7, 30) and ends[0] >= 1
        assert all(len(now) <= len(text) for _, now in said)
    assert compose(text)


def test_edits_nest_however_deep() -> None:
    deep = "[a:" * 2_000 + "b" + ":1]" * 2_000
    assert schedule(deep, 3) == [(1, "a"), (3, "b")]
    assert schedule("[" * 2_000 + "a|b" + "]" * 2_000, 2) == [
        (1, "[" * 1_999 + "a" + "]" * 1_999),
        (2, "[" * 1_999 + "b" + "]" * 1_999),
    ]
    assert parse("[a:b:1]") != parse("[a:b:2]")


@pytest.mark.parametrize(
    ("prompt", "weights"),
    [
        ("a CAT AND a BREAK b", [("a CAT and a break b", 1.0)]),
        ("[a:b:0.5]", [("a:b:0.5", 0.909)]),
        ("[a|b] (c:1.3)", [("a|b", 0.909), (" ", 1.0), ("c", 1.3)]),
        ("[(a:1.3):b|c:2] 10:30", [("a", 1.182), (":b|c:2", 0.909), (" 10:30", 1.0)]),
        ("[[a|b]:(c: 1.2 ):3]", [("a|b", 0.826), (":", 0.909), ("c", 1.091), (":3", 0.909)]),
        (r"a\:b [c:d:2]", [(r"a\:b ", 1.0), ("c:d:2", 0.909)]),
        (r"a\:b \[c:2\]", [(r"a\:b [c:2]", 1.0)]),
        ("a [b] 10:30 x|y", [("a ", 1.0), ("b", 0.909), (" 10:30 x|y", 1.0)]),
    ],
)
def test_operators_as_words(prompt: str, weights: list[tuple[str, float]]) -> None:
    words = as_words(prompt)
    assert is_plain(words)
    assert [(span.text, round(span.weight, 3)) for span in spans(words)] == weights


def test_a_plan_has_the_texts_of_each_step() -> None:
    plan = Plan.of("[a|b] AND c:0.5", "[x:y:0.5]", lambda: [4, 2])
    assert plan.weights == (1.0, 0.5)
    assert plan.passes == (
        (
            Texts(("a", " c"), "x"),
            Texts(("b", " c"), "x"),
            Texts(("a", " c"), "y"),
            Texts(("b", " c"), "y"),
        ),
        (Texts(("a", " c"), "y"), Texts(("b", " c"), "y")),
    )

    def unasked() -> list[int]:
        raise AssertionError("nothing changes by step")

    assert Plan.of("a [b] 10:30", "c", unasked) == Plan(((Texts(("a [b] 10:30",), "c"),),))


def test_what_is_never_read_is_said() -> None:
    def notes(prompt: str, negative: str = "", passes: tuple[int, ...] = (20,)) -> str:
        with collecting() as heard:
            Plan.of(prompt, negative, lambda: passes)
        return " ".join(heard)

    assert "'10' is not used" in notes("at [10:30]") and "20 steps" in notes("at [10:30]")
    assert "prompt: 'b'" in notes("[a:b:1.0]") and "negative prompt: 'b'" in notes("", "[a:b:20]")
    assert not notes("[a:b:1.0]", passes=(20, 8)) and not notes("[10:30]", passes=(20, 12))
    assert not notes("[a:b:0]") and not notes("[a:b:0.95]") and not notes("[a::30]") and not notes("a [b]")
    assert "AND" in notes("a", "b AND c") and not notes("a AND b", "b and c")


def test_more_than_a_batch_can_hold_is_refused() -> None:
    joined = " AND ".join(map(str, range(33)))
    with pytest.raises(ConfigError, match="AND joins 33 prompts; at most 32"):
        Plan.of(joined, "", lambda: [4])
    assert len(Plan.of(joined.removesuffix(" AND 32"), "", lambda: [4]).weights) == 32
    assert Plan.of(" AND " * 500, "", lambda: [4]).weights == (501.0,)
    for prompts in (("BREAK " * 101, ""), ("", "a BREAK " * 101)):
        with pytest.raises(ConfigError, match="BREAK occurs 101 times; at most 100"):
            Plan.of(*prompts, lambda: [4])
    Plan.of("BREAK " * 100 + "BREAKFAST", "", lambda: [4])
