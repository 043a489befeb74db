from __future__ import annotations

import pytest
import torch

from lorastyle.bases import StableDiffusion
from lorastyle.bases.emphasis import Span, spans
from tests.tiny import tiny_pipeline, tiny_xl_pipeline


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("", []),
        ("a (red:1.3) cat", [("a ", 1.0), ("red", 1.3), (" cat", 1.0)]),
        ("a (red : 1.3 ) cat", [("a ", 1.0), ("red ", 1.3), (" cat", 1.0)]),
        ("(bold)", [("bold", 1.1)]),
        ("((bold))", [("bold", 1.21)]),
        ("[faint]", [("faint", 1 / 1.1)]),
        ("((a) b:2)", [("a", 2.2), (" b", 2.0)]),
        ("(x:0)", [("x", 0.0)]),
        ("(x:-.5)", [("x", -0.5)]),
        ("(x:99)", [("x", 10.0)]),
        (r"a \(real\) cat", [("a (real) cat", 1.0)]),
        ("a (b", [("a (b", 1.0)]),
        ("a b) c]", [("a b) c]", 1.0)]),
        ("(a]", [("(a]", 1.0)]),
        (":) 10:30 a:b", [(":) 10:30 a:b", 1.0)]),
        ("no:1.3) end", [("no:1.3) end", 1.0)]),
        ("()", []),
        ("a\\b", [("a\\b", 1.0)]),
        (r"at 10\:30 a\|b", [("at 10:30 a|b", 1.0)]),
    ],
)
def test_brackets(prompt: str, expected: list[tuple[str, float]]) -> None:
    found = [(span.text, round(span.weight, 6)) for span in spans(prompt)]
    assert found == [(text, round(weight, 6)) for text, weight in expected]


def test_hostile_prompts_end_soon() -> None:
    assert spans("(" * 5000 + ")" * 5000) == []
    deep = "(" * 4999 + "a" + ")" * 4999
    assert spans(deep) == [Span("a", 10.0)]
    assert spans("\\" * 5000) == [Span("\\" * 2500)]


@pytest.fixture(scope="module", params=["sd", "xl"])
def base(request: pytest.FixtureRequest) -> StableDiffusion:
    from lorastyle.bases import open_pipeline

    pipe = tiny_pipeline() if request.param == "sd" else tiny_xl_pipeline()
    return open_pipeline(pipe, dtype=torch.float32)


def tokens(base: StableDiffusion, prompt: str, negative: str = "ugly") -> torch.Tensor:
    with torch.no_grad():
        return base.read([prompt], [negative])[0].tokens


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal up to rounding: chunks of a long prompt are encoded in one batch, and alone they are not."""
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_without_brackets_it_is_what_training_reads(base: StableDiffusion) -> None:
    with torch.no_grad():
        plain = base.encode_prompts(["a red cat"])
        read, _ = base.read(["a red cat"], [""])
    assert torch.equal(read.tokens, plain.tokens)
    if plain.pooled is not None:
        assert read.pooled is not None and torch.equal(read.pooled, plain.pooled)
    assert not torch.equal(tokens(base, "a red dog"), plain.tokens)


def test_a_weight_moves_its_tokens_away_from_the_empty_prompt(base: StableDiffusion) -> None:
    plain, empty = tokens(base, "a red cat"), tokens(base, "")
    heavy = tokens(base, "a (red:1.5) cat")
    # start, then every letter a token: "a", "r", "e", "d", then the rest
    torch.testing.assert_close(heavy[:, 2:5], empty[:, 2:5] + 1.5 * (plain - empty)[:, 2:5])
    assert torch.equal(heavy[:, :2], plain[:, :2]) and torch.equal(heavy[:, 5:], plain[:, 5:])
    assert not torch.allclose(heavy[:, 2:5], plain[:, 2:5])
    assert torch.equal(tokens(base, "a (red:1) cat"), plain)
    torch.testing.assert_close(tokens(base, "a (red:0) cat")[:, 2:5], empty[:, 2:5])


def test_long_prompts_are_read_in_chunks_and_no_word_is_lost(base: StableDiffusion) -> None:
    long = "a " * 30 + "b " * 30 + "c"
    read = tokens(base, long)
    assert read.shape[1] == 3 * 32
    assert_near(read[:, :32], tokens(base, "a " * 30))
    assert_near(read[:, 32:64], tokens(base, "b " * 30))
    assert_near(read[:, 64:], tokens(base, "c"))
    assert not torch.allclose(read[:, 64:], tokens(base, "d"), atol=1e-2)


def test_a_chunk_ends_after_a_comma_near_its_end(base: StableDiffusion) -> None:
    text = "a " * 25 + ", " + "b " * 10
    assert_near(tokens(base, text)[:, :32], tokens(base, "a " * 25 + ","))
    assert not torch.allclose(tokens(base, text)[:, :32], tokens(base, "a " * 25 + ", b"), atol=1e-2)
    early = "a, " + "b " * 40
    assert_near(tokens(base, early)[:, :32], tokens(base, "a, " + "b " * 28))


def test_prompt_and_negative_have_the_same_length(base: StableDiffusion) -> None:
    with torch.no_grad():
        wanted, unwanted = base.read(["a " * 70, "b"], ["", "ugly"])
    assert wanted.tokens.shape == unwanted.tokens.shape == (2, 96, wanted.tokens.shape[2])
    assert_near(wanted.tokens[1:, 32:64], tokens(base, ""))
    assert not torch.allclose(wanted.tokens[1:, :32], tokens(base, ""), atol=1e-2)


def test_break_starts_a_chunk(base: StableDiffusion) -> None:
    def chunked(*prompts: str) -> torch.Tensor:
        return torch.cat([tokens(base, prompt) for prompt in prompts], 1)

    both = tokens(base, "a cat BREAK a dog")
    assert both.shape[1] == 2 * 32
    assert_near(both, chunked("a cat", "a dog"))
    assert not torch.allclose(both, chunked("a cat", "a cat"), atol=1e-2)
    assert torch.equal(tokens(base, "a cat\nBREAK\na dog"), both)
    assert torch.equal(tokens(base, "(a cat BREAK a dog:1) BREAK"), both)
    heavy = tokens(base, "(a cat BREAK a:1.5) dog")
    assert_near(heavy, chunked("(a cat:1.5)", "(a:1.5) dog"))
    assert not torch.allclose(heavy, both, atol=1e-2)
    with torch.no_grad():
        wanted, unwanted = base.read(["a cat BREAK a dog"], ["rain BREAK snow"])
        first, _ = base.read(["a cat"], [""])
    assert_near(unwanted.tokens, chunked("rain", "snow"))
    if wanted.pooled is not None and first.pooled is not None:
        assert_near(wanted.pooled, first.pooled)  # of the first chunk, as in A1111


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("BREAK", [""]),
        ("a BREAK", ["a"]),
        ("BREAK a", ["", "a"]),
        ("a BREAK BREAK b", ["a", "", "b"]),
        ("a BREAK " + "b " * 40 + " BREAK c", ["a", "b " * 30, "b " * 10, "c"]),
        # negative controls: these are words
        ("a break b", ["a break b"]),
        ("a Break b", ["a break b"]),
        ("BREAKFAST", ["breakfast"]),
        ("a_BREAK_b", ["a_break_b"]),
    ],
)
def test_where_chunks_begin(base: StableDiffusion, prompt: str, chunks: list[str]) -> None:
    found = [chunk.ids[0].tolist() for chunk in base.readers[0].chunks(prompt)]
    words = [base.readers[0].cut([text])[0].tolist() for text in chunks]
    assert found == words and len(found) == base.chunks(prompt)
