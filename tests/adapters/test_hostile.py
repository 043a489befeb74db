"""Files made to hurt: one clear error each, soon, in little memory, and nothing is left changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lorastyle.adapters import load_adapter, model_hash, read_header, read_info, save_adapter
from lorastyle.adapters import numbers as numbers_module
from lorastyle.errors import AdapterFileError
from tests.adapters.examples import SHAPES, mixed_adapter

READERS: tuple[Callable[[Path], object], ...] = (
    read_header,
    read_info,
    model_hash,
    lambda path: load_adapter(path, SHAPES),
)


def refused(path: Path, why: str) -> None:
    for read in READERS:
        with pytest.raises(AdapterFileError, match=why) as caught:
            read(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX systems")
def test_links_pipes_and_devices(tmp_path: Path) -> None:
    good = save_adapter(mixed_adapter(), tmp_path / "good.safetensors")
    link = tmp_path / "link.safetensors"
    link.symlink_to(good)
    assert load_adapter(link, SHAPES).parameters == mixed_adapter().parameters
    nowhere = tmp_path / "nowhere.safetensors"
    nowhere.symlink_to(tmp_path / "gone")
    refused(nowhere, "no such file")
    loop = tmp_path / "loop.safetensors"
    loop.symlink_to(loop)
    refused(loop, "cannot be read|no such file")
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    refused(pipe, "not an ordinary file")
    device = tmp_path / "zero.safetensors"
    device.symlink_to("/dev/zero")
    refused(device, "not an ordinary file")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "this is a folder")


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_adapter(mixed_adapter(), tmp_path / "a.safetensors")
    real = numbers_module.read_tensors

    def shrink(*args: object, **kwargs: object) -> object:
        os.truncate(path, path.stat().st_size // 2)
        return real(*args, **kwargs)  # pyright: ignore

    monkeypatch.setattr(numbers_module, "read_tensors", shrink)
    with pytest.raises(AdapterFileError, match=r"a\.safetensors: the file was changed while it was read"):
        load_adapter(path, SHAPES)


BOMBS = {
    "ten million keys": "b'{' + b','.join(b'\"%d\":0' % i for i in range(4_000_000)) + b'}'",
    "a hundred megabytes": "b'{\"a\":\"' + b'x' * 100_000_000 + b'\"}'",
    "many empty lists": "b'{\"a\":[' + b'[],' * 10_000_000 + b'[]]}'",
    "many tensors": 'b\'{\' + b\',\'.join(b\'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}\' '
    "% i for i in range(80_000)) + b'}'",
    "one long text": "b'{\"__metadata__\":{\"a\":\"' + b'x' * 49_000_000 + b'\"}}'",
    "deep": "b'{\"a\":' + b'[' * 500_000 + b']' * 500_000 + b'}'",
}
MEASURE = """
import resource, sys, time
from pathlib import Path
from lorastyle.adapters import read_info
from lorastyle.errors import AdapterFileError
path = Path(sys.argv[1])
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    read_info(path)
except AdapterFileError as error:
    print(str(error)[:300].replace("\\n", " "))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 if sys.platform == "darwin" else 1024
print((after - before) * unit - path.stat().st_size)
print(time.process_time() - start)
"""


@pytest.mark.skipif(os.name == "nt", reason="memory is measured as POSIX systems tell it")
@pytest.mark.parametrize("name", BOMBS)
def test_headers_that_swell(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.safetensors"
    text: bytes = eval(BOMBS[name])
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    *error, beyond, _ = done.stdout.splitlines()
    assert len(error) == 1 and "bomb.safetensors" in error[0]
    assert int(beyond) < 200_000_000


SWELLING = {
    "a core of a large kernel": {
        "lora_down.weight": torch.ones(1, 100_000, 1, 1),
        "lora_mid.weight": torch.ones(1, 1, 300, 300),
        "lora_up.weight": torch.ones(4, 1, 1, 1),
    },
    "a loha with cores": {
        "hada_w1_a": torch.ones(1, 4), "hada_w1_b": torch.ones(1, 100_000),
        "hada_w2_a": torch.ones(1, 4), "hada_w2_b": torch.ones(1, 100_000),
        "hada_t1": torch.ones(1, 1, 300, 300), "hada_t2": torch.ones(1, 1, 300, 300),
    },
    "a sparse difference of nothing": {
        "lora_down.weight": torch.ones(1, 4), "lora_up.weight": torch.ones(4, 1),
        "bias_indices": torch.zeros(2, 0, dtype=torch.int64), "bias_values": torch.zeros(0),
        "bias_size": torch.tensor([100_000, 100_000]),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SWELLING)
def test_small_factors_of_enormous_weights(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file({f"lora_unet_x.{end}": t for end, t in SWELLING[name].items()}, path)
    with pytest.raises(AdapterFileError, match=r"a\.safetensors: lora_unet_x: a (core|sparse difference) of"):
        load_adapter(path, {"unet": ["x"]})


def test_a_loha_that_would_swell_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    wide = {f"hada_w{n}_a": torch.ones(50_000, 100) for n in (1, 2)}
    wide |= {f"hada_w{n}_b": torch.ones(100, 50_000) for n in (1, 2)}
    safetensors.torch.save_file({f"lora_unet_x.{end}": t for end, t in wide.items()}, path)
    adapter = load_adapter(path, {"unet": ["x"]})
    assert not adapter.components and adapter.parameters == 4 * 100 * 50_000 + 1
