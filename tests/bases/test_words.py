"""Words that adapters bring along, read without a change to tokenizer or model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lorastyle.bases import PromptEmbeds, StableDiffusion, open_pipeline
from lorastyle.errors import BaseMismatchError
from tests.tiny import tiny_pipeline, tiny_xl_pipeline


def as_read(base: StableDiffusion, prompt: str) -> PromptEmbeds:
    return base.read([prompt], [""])[0]


def vectors_of(base: StableDiffusion, text: str) -> dict[str, Tensor]:
    """What the tables of a base's text encoders have for the tokens of a text."""
    found: dict[str, Tensor] = {}
    for component, tokenizer in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
        if component in base.components:
            ids = getattr(base.pipe, tokenizer)(text, add_special_tokens=False).input_ids
            table = getattr(base.pipe, component).get_input_embeddings().weight
            found[component] = table.detach()[ids].clone()
    return found


@pytest.fixture(params=["sd", "xl"])
def base(request: pytest.FixtureRequest) -> StableDiffusion:
    pipe = tiny_pipeline() if request.param == "sd" else tiny_xl_pipeline()
    return open_pipeline(pipe)


def test_a_word_is_what_its_vectors_say(base: StableDiffusion) -> None:
    """Its ids are larger than the end's, which must still be found: the pooled sentence is the same."""
    before = {c: {k: v.clone() for k, v in m.state_dict().items()} for c, m in base.components.items()}
    expected, letters = as_read(base, "a cat sits"), as_read(base, "a zq sits")
    base.set_words({"zq": vectors_of(base, "cat")})
    for prompt in ("a zq sits", "a ZQ sits"):
        found = as_read(base, prompt)
        assert torch.equal(found.tokens, expected.tokens)
        if expected.pooled is not None:
            assert found.pooled is not None and torch.equal(found.pooled, expected.pooled)
    assert not torch.equal(as_read(base, "a zqs sits").tokens, expected.tokens)
    weighted = as_read(base, "a (zq:1.5) sits")
    assert torch.allclose(weighted.tokens, as_read(base, "a (cat:1.5) sits").tokens, atol=1e-6)
    assert not torch.allclose(weighted.tokens, expected.tokens, atol=1e-3)
    base.set_words({})
    assert torch.equal(as_read(base, "a zq sits").tokens, letters.tokens)
    assert not torch.equal(letters.tokens, expected.tokens)
    for component, tensors in before.items():
        now = base.components[component].state_dict()
        assert all(torch.equal(now[name], value) for name, value in tensors.items())


def test_several_words_and_a_longer_one_first(base: StableDiffusion) -> None:
    base.set_words({"zq": vectors_of(base, "dog"), "zq-old": vectors_of(base, "cat")})
    found = as_read(base, "zq-old, zq zq")
    assert torch.equal(found.tokens, as_read(base, "cat, dog dog").tokens)


def test_a_word_of_another_base_is_refused(base: StableDiffusion) -> None:
    base.check_words({"zq": vectors_of(base, "cat")})
    with pytest.raises(BaseMismatchError, match=r"The word 'zq' .* is 768 wide, and the base .* words of 16"):
        base.check_words({"zq": {"text_encoder": torch.ones(2, 768)}})
