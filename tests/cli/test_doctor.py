"""`lorastyle doctor`."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorastyle.doctor import Check, Rate, Report, SelfTest, examine

from .conftest import Said

Run = Callable[..., Said]

HEADINGS = ["software", "devices", "folders", "bases", "settings", "extras", "self-test", "problems"]
PASSED = SelfTest(True, 8.2, (Check("load", True, "the embedded base on cpu", 3.0),))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No measuring and no training, and caches in a folder of the test's."""

    def measured(device: str) -> tuple[Rate, ...]:
        return (
            Rate("float32", True, 98.2e9),
            Rate("bfloat16", True, 2.11e12),
            Rate("float16", True, 1e9, "98 times slower than float32"),
        )

    monkeypatch.setattr("lorastyle.doctor.devices.measure_rates", measured)
    monkeypatch.setattr("lorastyle.doctor.report.run_self_test", lambda: PASSED)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LORASTYLE_BASE", raising=False)


def failing(reason: str) -> Callable[[], SelfTest]:
    checks = (Check("load", True, "fine", 1.0), Check("reload", False, reason, 0.5))
    return lambda: SelfTest(False, 1.5, checks, reason, "Paste this.")


def test_the_real_thing(lorastyle: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASTYLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    said = lorastyle("doctor", "--json")
    assert (said.code, said.err) == (0, "")
    found: dict[str, Any] = json.loads(said.out)
    assert found["self_test"]["passed"], found["self_test"]["reason"]
    assert len(found["self_test"]["checks"]) == 5
    assert found["hardware"]["devices"][-1]["rates"][0]["flops"] > 0
    assert list(tmp_path.iterdir()) == [], "the doctor leaves nothing behind"


@pytest.mark.usefixtures("quick")
def test_it_reads_from_top_to_bottom(lorastyle: Run) -> None:
    said = lorastyle("doctor")
    assert (said.code, said.err) == (0, "")
    headings = [line for line in said.out.splitlines() if line and not line.startswith(" ")]
    assert [heading for heading in HEADINGS if heading in headings] == headings
    assert f"torch            {importlib.metadata.version('torch')}\n" in said.out
    assert "ok   load" in said.out and "passed in 8.2 s" in said.out
    assert " 98.2 GFLOP/s" in said.out and " 2.1 TFLOP/s" in said.out
    assert "1.0 GFLOP/s   98 times slower than float32" in said.out


@pytest.mark.usefixtures("quick")
def test_json_has_the_same_facts(lorastyle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    report = examine()

    def same(**_: object) -> Report:
        return report

    monkeypatch.setattr("lorastyle.cli.doctor.examine", same)
    found: dict[str, Any] = json.loads(lorastyle("doctor", "--json").out)
    text = lorastyle("doctor").out
    facts: list[str] = [found["software"]["lorastyle"], found["software"]["system"]]
    facts += [fact for p in found["software"]["packages"] for fact in (p["name"], p["version"])]
    facts += [fact for d in found["hardware"]["devices"] for fact in (d["id"], d["name"], d["why"])]
    facts += [place["path"] for place in found["places"]]
    facts += [base["name"] for base in found["bases"]["at_hand"]]
    facts += [fact for extra in found["software"]["extras"] for fact in (extra["name"], extra["command"])]
    facts += [check["found"] for check in found["self_test"]["checks"]]
    facts += [name for name in found["settings"]["variables"]]
    assert len(facts) > 40
    assert [fact for fact in facts if fact not in text] == []


@pytest.mark.usefixtures("quick")
def test_without_the_self_test(lorastyle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> SelfTest:
        raise AssertionError("it was to be left out")

    monkeypatch.setattr("lorastyle.doctor.report.run_self_test", never)
    said = lorastyle("doctor", "--no-self-test")
    assert said.code == 0 and "left out (--no-self-test)" in said.out
    assert json.loads(lorastyle("doctor", "--no-self-test", "--json").out)["self_test"] is None
    assert lorastyle("doctor").code == 1, "left out only when it is asked for"


@pytest.mark.usefixtures("quick")
def test_a_failed_self_test(lorastyle: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "the file holds 1234, and once loaded and written again 5678, which is " + "very " * 20 + "odd"
    monkeypatch.setattr("lorastyle.doctor.report.run_self_test", failing(reason))
    said = lorastyle("doctor")
    assert said.code == 1 and said.err == ""
    assert "ok   load" in said.out and "FAIL reload" in said.out and "failed in 1.5 s" in said.out
    problems = " ".join(said.out.partition("\nproblems\n")[2].split())
    assert f"the self-test failed: {reason}" in problems and "Paste this." in problems
    assert max(map(len, said.out.partition("\nself-test\n")[2].splitlines())) <= 100
    as_json = lorastyle("doctor", "--json")
    assert as_json.code == 1 and json.loads(as_json.out)["self_test"]["reason"] == reason


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("installed", "told"), [(None, "pip install"), ("0.1", "pip install"), ("6.40", "there")]
)
def test_a_missing_extra_is_named_with_its_command(
    installed: str | None, told: str, lorastyle: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name != "gradio":
            return importlib.metadata.version(name)
        if installed is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr("lorastyle.doctor.software.version", version)
    out = lorastyle("doctor", "--no-self-test").out
    (line,) = [line for line in out.splitlines() if line.startswith("  ui ")]
    assert told in line and ('"gradio>=' in line) == (told != "there")


JANE, TOKEN, HOST = "jane-doe-9f2", "secret-9f2-token", "janes-laptop-9f2"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("cleaned", [True, False])
def test_no_names_and_no_tokens(
    cleaned: bool, as_json: bool, lorastyle: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / JANE
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HOME", f"/media/{JANE}/hf")
    monkeypatch.setenv("LORASTYLE_CACHE", str(home / "cache"))
    monkeypatch.setattr(getpass, "getuser", lambda: JANE)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    error = failing(f"{home}/x.safetensors on {HOST} refused {TOKEN}")
    monkeypatch.setattr("lorastyle.doctor.report.run_self_test", error)
    if not cleaned:  # the control: without cleaning they are all there
        monkeypatch.setattr("lorastyle.doctor.report.private", lambda report: report)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    said = lorastyle("doctor", *(["--json"] if as_json else []))
    assert [secret in said.out for secret in (JANE, TOKEN, HOST)] == [not cleaned] * 3
    if cleaned:
        assert "~/cache" in said.out and "/media/<user>/hf" in said.out
        assert "~/x.safetensors on <host> refused <token>" in " ".join(said.out.split())
        assert "HF_TOKEN" in said.out, "that there is a token is told"


@pytest.mark.usefixtures("quick")
def test_version_is_the_start_of_it(lorastyle: Run) -> None:
    lines = lorastyle("version").out.splitlines()
    told = lorastyle("doctor", "--no-self-test").out.splitlines()
    assert [f"  {line}" for line in lines] == told[1 : 1 + len(lines)]
    assert len(lines) > 10 and lines[0].startswith("lorastyle ")
