"""Settings of other programs: what names adapters, and what is not read is said."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from lorastyle.adapters import model_hash
from lorastyle.generate import AdapterUse
from lorastyle.generate.known import known_as
from lorastyle.generate.metadata.infotext import read_parameters

from .conftest import MakeAdapter

LAST = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x96, RNG: CPU"
A, B = "0123456789ab", "abcdef0123"


@pytest.mark.parametrize(
    ("more", "uses", "digests"),
    [
        (
            f"AddNet Enabled: True, AddNet Module 1: LoRA, AddNet Model 1: cat({A}), AddNet Weight A 1: 0.8, "
            "AddNet Weight B 1: 0.5",
            (AdapterUse("cat", 0.8, A, te=0.5),),
            {"cat": A},
        ),
        ("AddNet Model 1: cat(01234567), AddNet Weight 1: 0.8", (AdapterUse("cat", 0.8),), None),
        ("AddNet Enabled: False, AddNet Model 1: cat(01234567), AddNet Weight 1: 0.8", (), None),
        (
            f'Lora hashes: "cat: {A}, ink: {B}", Lora weights: "cat: 0.5, ink: -1", Version: Fooocus v2.5',
            (AdapterUse("cat", 0.5, A), AdapterUse("ink", -1.0)),
            {"cat": A, "ink": B},
        ),
    ],
)  # fmt: skip
def test_adapters_that_settings_name(
    more: str, uses: tuple[AdapterUse, ...], digests: dict[str, str] | None
) -> None:
    found = read_parameters(f"a cat\n{LAST}, {more}")
    assert found.request.adapters == uses and found.remarks == ()
    assert digests is None or found.digests == digests


def test_sdnext_has_names_and_hashes_in_one_order() -> None:
    more = f'App: SD.Next, LoRA networks: "cat, ink", LoRA hashes: "{A}, {B}"'
    found = read_parameters(f"a cat <lora:cat:0.5> <lora:ink:1>\n{LAST}, {more}")
    assert found.digests == {"cat": A, "ink": B}
    assert found.remarks == ("Settings that have no counterpart here are left out: App.",)
    assert "'cat', 'ink' have hashes, and no tag" in read_parameters(f"a\n{LAST}, {more}").remarks[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('Civitai resources: [{"type":"lora","weight":0.4,"modelName":"Detail"}]', "'Detail' (lora at 0.4)"),
        ('Civitai resources: [{"air":"urn:air:sdxl:lora:civitai:1@2","weight":1}]', "urn:air:sdxl:lora"),
        ('Civitai resources: [{"type":"checkpoint","modelVersionId":2}]', ""),
        ("Civitai resources: nothing", "cannot be read"),
        ('Hashes: {"vae": "735e4c3a44", "embed:easy": "c74b4e810b", "model": ""}', "'vae', 'embed:easy'"),
        ('Hashes: {"lora:x": "false"}', "'lora:x'"),
        ("Hashes: 123", "no JSON table"),
        ("Foo (bar): 1", "'Foo (bar): 1'"),
        ("X.y: 2, [z]: 3", "'X.y: 2', '[z]: 3'"),
        ("Tiling, Restore faces", "'Tiling', 'Restore faces'"),
        ("ADetailer prompt: face, smile", "'smile'"),
        ("Seed: 5", "there twice: Seed"),
        ("Lora weights: cat: much", "'much'"),
        ("AddNet Module 1: Other, AddNet Model 1: x(01234567)", "AddNet Model 1"),
    ],
)
def test_nothing_in_the_settings_vanishes(more: str, said: str) -> None:
    remarks = read_parameters(f"a cat\n{LAST}, {more}").remarks
    assert bool(remarks) == bool(said) and said in " ".join(remarks)
    assert read_parameters(f"a cat\n{LAST}").remarks == ()


def test_settings_as_other_programs_spell_them() -> None:
    request = read_parameters(
        "a\nsteps: 20.0, sampler: Euler a, CFG Scale: 3.5, seed: 5.0, size: 64 x 96, Clip skip: -2, "
        "Model hash: 6CE0161689, Model: m, RNG: CPU"
    ).request
    assert (request.steps, request.scheduler, request.guidance, request.seed) == (20, "euler a", 3.5, 5)
    assert (request.width, request.height, request.clip_skip, request.base_hash) == (64, 96, 2, "6ce0161689")


@pytest.mark.parametrize("empty", ["None", "null", "undefined"])
def test_a_value_that_a_program_does_not_have_is_left_open(empty: str) -> None:
    found = read_parameters(f"a\nSteps: 20, Sampler: Euler a, CFG scale: {empty}, Seed: {empty}, RNG: CPU")
    assert (found.request.guidance, found.request.seed) == (7.0, None)
    assert found.remarks == (
        f"CFG scale is '{empty}' in the image: 7 is used.",
        f"Seed is '{empty}' in the image: it is left open.",
    )
    assert "Size is 'big'" in read_parameters(f"a\n{LAST.replace('64x96', 'big')}").remarks[0]


def test_hashes_of_every_kind_in_either_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_adapter: MakeAdapter
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LORASTYLE_HOME", str(tmp_path / "home"))
    (tmp_path / "adapters").mkdir()
    file = Path(shutil.copy(make_adapter("cat"), tmp_path / "adapters" / "felis.safetensors"))
    with file.open("ab") as longer:  # AutoV1 is of what lies behind the first MiB
        longer.write(bytes(0x110000))
    data = file.read_bytes()
    whole = hashlib.sha256(data).hexdigest()
    v1 = hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    for digest in (whole, whole[:10], v1):
        for spelt in (digest, digest.upper()):
            found = known_as("gone", spelt)
            assert found is not None and (found.name, found.same) == ("felis", True)
    for digest in (whole[:12], whole[:8], "0" * 8, "0" * 64):
        assert known_as("gone", digest) is None
    assert model_hash(make_adapter("cat"))[:8] != v1
