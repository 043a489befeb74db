"""Valid files with something changed by chance: whatever it is, nothing but a LorastyleError comes of it.

`LORASTYLE_FUZZ=20000` is the long form; `LORASTYLE_FUZZ_SEED` starts it elsewhere.
"""

from __future__ import annotations

import json
import math
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lorastyle.adapters import compare_adapters, load_adapter_report, model_hash, read_info, save_adapter
from lorastyle.errors import LorastyleError
from tests.adapters.lycoris_files import CASES, made
from tests.adapters.spellings import FILES, SHAPES, xl_adapter

COUNT = int(os.environ.get("LORASTYLE_FUZZ", "150"))
SEED = int(os.environ.get("LORASTYLE_FUZZ_SEED", "0"))
PATHS = {name: f"down_blocks.0.thing{i}" for i, name in enumerate(CASES)}

Header = dict[str, Any]


def lycoris_file() -> tuple[dict[str, Tensor], dict[str, dict[str, tuple[int, ...]]]]:
    """A module of every algorithm, and what the model has in their places."""
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, case in CASES.items():
        one, path = made(case), PATHS[name]
        tensors |= {f"lora_unet_{path.replace('.', '_')}.{end}": t for end, t in one.tensors.items()}
        shapes[path] = tuple(one.weight.shape)
    return tensors, {"unet": shapes}


def split(data: bytes) -> tuple[Header, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Header, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def odd_value(chance: random.Random) -> Any:
    return chance.choice([-1, 0, 1, 2**31, 2**63, 2**70, 1.5, None, True, "", "\0", [], {}, [1] * 9, "F32"])


def change_header(chance: random.Random, data: bytes) -> bytes:
    header, body = split(data)
    names = [name for name in header if name != "__metadata__"]
    name, other = chance.choice(names), chance.choice(names)
    entry = header[name]
    match chance.randrange(9):
        case 0:
            entry[chance.choice(list(entry))] = odd_value(chance)
        case 1:
            entry["shape"] = entry["shape"][::-1]
        case 2:
            entry["shape"] = [math.prod(entry["shape"])]
        case 3:
            entry["shape"] = [*entry["shape"], 1]
        case 4:
            entry["dtype"] = chance.choice(["F32", "F16", "BF16", "I32", "I16", "U8", "F8_E4M3"])
        case 5:
            header[name], header[other] = header[other], header[name]
        case 6:
            end = chance.choice([n.partition(".")[2] for n in names])
            header[f"{name.partition('.')[0]}.{end}"] = header.pop(name)
        case 7:
            header["__metadata__"] = {chance.choice(["lora_adapter_metadata", "ss_x"]): odd_value(chance)}
        case _:
            del header[name]
            body = body[: max(0, len(body) - chance.randrange(64))]
    return joined(header, body)


def drop_tensors(chance: random.Random, data: bytes) -> bytes:
    """A file as valid as before, with some of its tensors, some of them changed."""
    tensors = {name: tensor for name, tensor in safetensors.torch.load(data).items() if chance.random() < 0.8}
    if tensors:
        name = chance.choice(list(tensors))
        change: Callable[[Tensor], Tensor] = chance.choice(
            [
                lambda t: t.flatten(),
                lambda t: t[:0] if t.ndim else t,
                lambda t: t[None],
                lambda t: t.transpose(0, -1).contiguous() if t.ndim else t,
                lambda t: torch.full_like(t, float("nan")) if t.is_floating_point() else -t,
                lambda t: (t.float() * 1e38).float(),
                lambda t: t.to(torch.int32),
                lambda t: torch.cat([t, t]) if t.ndim else t,
            ]
        )
        tensors[name] = change(tensors[name])
    return safetensors.torch.save(tensors)


def flip_bytes(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    end = len(changed) if chance.random() < 0.3 else min(len(changed), 400)
    for _ in range(chance.randrange(1, 6)):
        changed[chance.randrange(end)] = chance.randrange(256)
    return bytes(changed)


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


MUTATIONS = (change_header, change_header, drop_tensors, drop_tensors, flip_bytes, cut)


def look(path: Path, shapes: dict[str, Any]) -> bool:
    """Everything that is done with a stranger's file; whether it could be loaded."""
    for read in (read_info, model_hash):
        try:
            read(path)
        except LorastyleError as error:
            assert path.name in str(error) and len(str(error)) < 2000
    try:
        adapter, _ = load_adapter_report(path, shapes)
    except LorastyleError as error:
        assert path.name in str(error) and len(str(error)) < 2000
        return False
    compare_adapters(adapter, adapter, shapes)  # makes every update dense
    for component, module, update in adapter.dense_updates():
        delta = update.delta(torch.ones(shapes[component][module]))
        assert delta is None or tuple(delta.shape) == tuple(shapes[component][module])
    return True


@pytest.mark.filterwarnings("ignore")
def test_mutated_files(tmp_path: Path) -> None:
    pytest.importorskip("lycoris")
    chance = random.Random(SEED)
    tensors, shapes = lycoris_file()
    files: list[tuple[bytes, dict[str, Any]]] = [(safetensors.torch.save(tensors), shapes)] * 3
    for make in FILES.values():
        files.append(
            (safetensors.torch.save({k: t.contiguous() for k, t in make(xl_adapter()).items()}), {**SHAPES})
        )
    path = tmp_path / "a.safetensors"
    for data, own in files:
        path.write_bytes(data)
        assert look(path, own)
    loaded = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(COUNT):
            data, own = chance.choice(files)
            mutation = chance.choice(MUTATIONS)
            path.write_bytes(mutation(chance, data))
            try:
                loaded += look(path, own)
            except Exception as error:
                raise AssertionError(f"seed {SEED}, file {i}, {mutation.__name__}") from error
    assert COUNT / 20 < loaded < COUNT * 19 / 20  # neither all harmless nor all dead at the door


def test_mutated_peft_folders(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    folder = save_adapter(xl_adapter(), tmp_path / "a", format="peft")
    config, weights = folder / "unet" / "adapter_config.json", folder / "unet" / "adapter_model.safetensors"
    text, data = json.loads(config.read_text()), weights.read_bytes()
    loaded = 0
    for i in range(COUNT // 5):
        changed = dict(text)
        changed[chance.choice([*changed, "lora_alpha", "alpha_pattern"])] = odd_value(chance)
        written = json.dumps(changed).encode()
        if chance.random() < 0.3:
            written = flip_bytes(chance, written)
        config.write_bytes(written)
        weights.write_bytes(chance.choice(MUTATIONS)(chance, data) if chance.random() < 0.3 else data)
        try:
            load_adapter_report(folder, SHAPES)
            loaded += 1
        except LorastyleError as error:
            assert str(folder) in str(error), (i, error)
    assert loaded > 0
