"""Verdicts on single modules, against what each program's own code does with them.

Every case has a neighbour, a file that differs in the one thing that matters and is read whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lorastyle.adapters.readers import Verdict, judge_readers

Tensors = dict[str, Tensor]
TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
TO_Q = TO_K.replace("to_k", "to_q")
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
LAYER = "text_model_encoder_layers_0"
FINAL = "text_model_final_layer_norm"
SIZE, RANK = 8, 2


def _named(module: str, **tensors: Tensor) -> Tensors:
    """`a__b` is `a.b`."""
    return {f"{module}.{end.replace('__', '.')}": tensor for end, tensor in tensors.items()}


def lora(
    module: str = TO_K, *, alpha: float = 1.0, down: str = "lora_down.weight", **more: Tensor
) -> Tensors:
    up = down.replace("lora_down", "lora_up").replace("lora_A", "lora_B")
    kernel = (3, 3) if "conv" in module else ()
    factors = {down: torch.ones(RANK, SIZE, *kernel), up: torch.ones(SIZE, RANK, *(1 for _ in kernel))}
    whole = {"alpha": torch.tensor(alpha), **factors}
    return {f"{module}.{end}": tensor for end, tensor in whole.items()} | _named(module, **more)


def loha(module: str = TO_K, **more: Tensor) -> Tensors:
    wide, tall = torch.ones(RANK, SIZE), torch.ones(SIZE, RANK)
    own = {"hada_w1_a": tall, "hada_w1_b": wide, "hada_w2_a": tall, "hada_w2_b": wide}
    return _named(module, **own, alpha=torch.tensor(1.0), **more)


def lokr(module: str = TO_K, *, first: bool = False, second: bool = False, **more: Tensor) -> Tensors:
    """Its halves whole, or one or both of them in factors."""
    own: dict[str, Tensor] = {"alpha": torch.tensor(1.0)}
    for half, factored, size in (("w1", first, 2), ("w2", second, SIZE // 2)):
        if factored:
            own |= {f"lokr_{half}_a": torch.ones(size, RANK), f"lokr_{half}_b": torch.ones(RANK, size)}
        else:
            own[f"lokr_{half}"] = torch.ones(size, size)
    return _named(module, **own, **more)


def _tucker_lokr(module: str) -> Tensors:
    core = {"lokr_t2": torch.ones(RANK, RANK, 3, 3), "lokr_w2_a": torch.ones(RANK, SIZE // 2)}
    return _named(module, lokr_w1=torch.ones(2, 2), lokr_w2_b=torch.ones(RANK, SIZE // 2), **core)


def full(module: str = TO_K, **more: Tensor) -> Tensors:
    return _named(module, diff=torch.ones(SIZE, SIZE), **more)


def norm(module: str) -> Tensors:
    return _named(module, w_norm=torch.ones(SIZE), b_norm=torch.ones(SIZE))


def ia3(module: str = TO_K, *shape: int, on_input: int = 0) -> Tensors:
    return _named(module, weight=torch.ones(shape or (SIZE,)), on_input=torch.tensor(on_input))


def oft(alpha: float | None, *, stages: int = 0, **more: Tensor) -> Tensors:
    blocks = torch.ones(*((stages,) if stages else ()), 4, 2, 2)
    own = {"oft_blocks": blocks} | ({} if alpha is None else {"alpha": torch.tensor(alpha)})
    return _named(TO_K, **own, **more)


def glora(shape_a: tuple[int, int], *, alpha: float = 2.0, module: str = TO_K, kernel: int = 0) -> Tensors:
    """`a1` of this shape, and the others to go with it; `b1` has the kernel of a convolution."""
    one, wide = ((1, 1), (kernel, kernel)) if kernel else ((), ())
    there, back = torch.ones(*shape_a, *one), torch.ones(*shape_a[::-1], *one)
    b1 = torch.ones(*shape_a, *wide)
    own = {"a1__weight": there, "a2__weight": back, "b1__weight": b1, "b2__weight": back}
    return _named(module, **own, alpha=torch.tensor(alpha))


def openclip(prefix: str, *biased: str) -> Tensors:
    parts = ("q", "k", "v", "out")
    names = {part: f"{prefix}{LAYER}_self_attn_{part}_proj" for part in parts}
    more = {part: {"diff_b": torch.ones(SIZE)} if part in biased else {} for part in parts}
    return {key: t for part, name in names.items() for key, t in full(name, **more[part]).items()}


BIAS = torch.ones(SIZE)
TE, TE1, TE2 = "lora_te_", "lora_te1_", "lora_te2_"


class Case(NamedTuple):
    """What readers make of a file: how many of its modules are lost, how many read otherwise.

    "none" stands for a file that is refused; a reader that is not named is not asked.
    """

    tensors: Tensors
    said: Mapping[str, tuple[int, int] | str]
    neighbour: Tensors
    family: str = "sd1"


def _of(readers: str, said: tuple[int, int] | str) -> dict[str, tuple[int, int] | str]:
    return dict.fromkeys(readers.split(", "), said)


READ, LOST, OTHERWISE = (0, 0), (1, 0), (0, 1)
CASES: Mapping[str, Case] = {
    # biases
    "diff_b beside LoRA": Case(
        lora(diff_b=BIAS),
        _of("A1111, sd-scripts, InvokeAI", OTHERWISE) | _of("ComfyUI, Forge, stable-diffusion.cpp", READ),
        lora(),
    ),
    "diff_b beside LoHa": Case(
        loha(diff_b=BIAS), _of("A1111, InvokeAI", OTHERWISE) | _of("ComfyUI, Forge", READ), loha()
    ),
    "diff_b beside LoKr": Case(
        lokr(diff_b=BIAS), _of("A1111, InvokeAI", OTHERWISE) | _of("ComfyUI, Forge", READ), lokr()
    ),
    "diff_b beside a difference": Case(
        full(diff_b=BIAS), _of("A1111, InvokeAI, ComfyUI, Forge", READ), full()
    ),
    "a difference beside LoRA": Case(
        lora(diff=torch.ones(SIZE, SIZE)),
        _of("A1111, InvokeAI, sd-scripts, ComfyUI, Forge, stable-diffusion.cpp", OTHERWISE),
        lora(),
    ),
    "a difference beside LoHa": Case(
        loha(diff=torch.ones(SIZE, SIZE)),
        _of("A1111, InvokeAI, ComfyUI, Forge, stable-diffusion.cpp", OTHERWISE),
        loha(),
    ),
    # attention and norms of OpenCLIP
    "biases of SD 2's attention": Case(
        openclip(TE, "q", "k", "v", "out"), {"A1111": (0, 3)}, openclip(TE, "out"), "sd2"
    ),
    "biases of SDXL's second attention": Case(
        openclip(TE2, "q", "k", "v", "out"), {"A1111": (0, 3)}, openclip(TE2, "out"), "sdxl"
    ),
    "one bias of SDXL's second attention": Case(
        openclip(TE2, "k"), {"A1111": OTHERWISE}, openclip(TE2), "sdxl"
    ),
    "a part of OpenCLIP's attention that fails": Case(
        openclip(TE2) | lora(f"{TE2}{LAYER}_self_attn_v_proj", bias=BIAS),
        {"A1111": (4, 0)},
        openclip(TE2),
        "sdxl",
    ),
    "biases of SD 1's attention": Case(
        openclip(TE, "q", "k", "v", "out"), {"A1111": READ, "ComfyUI": READ}, openclip(TE), "sd1"
    ),
    "the last norm": Case(
        norm("lora_unet_conv_norm_out") | norm(f"{TE}{FINAL}"),
        {"A1111": (2, 0)},
        norm("lora_unet_down_blocks_0_resnets_0_norm1") | norm(f"{TE}{LAYER}_layer_norm1"),
    ),
    "SDXL's last norm by its first name": Case(
        norm("lora_unet_conv_norm_out"), {"A1111": LOST}, norm("lora_unet_out_0"), "sdxl"
    ),
    "norms of SD 2's encoder": Case(
        norm(f"{TE}{LAYER}_layer_norm1") | norm(f"{TE}{FINAL}"),
        {"A1111": (2, 0)},
        norm("lora_unet_mid_block_resnets_0_norm2"),
        "sd2",
    ),
    "norms of SDXL's second encoder": Case(
        norm(f"{TE2}{LAYER}_layer_norm2") | norm(f"{TE2}{FINAL}"),
        {"A1111": (2, 0)},
        norm(f"{TE1}{LAYER}_layer_norm2") | norm(f"{TE1}{FINAL}"),
        "sdxl",
    ),
    # IA3
    "IA3 on a convolution": Case(
        ia3() | ia3(f"{TE}{LAYER}_self_attn_k_proj") | ia3(CONV, 1, SIZE, 1, 1),
        _of("A1111", LOST) | _of("InvokeAI", "none"),
        ia3() | ia3(f"{TE}{LAYER}_self_attn_k_proj"),
    ),
    "IA3 on a flat convolution": Case(
        ia3(f"{TE}{LAYER}_self_attn_k_proj") | ia3(CONV, SIZE, on_input=1),
        _of("A1111", LOST) | _of("InvokeAI", "none"),
        ia3(f"{TE}{LAYER}_self_attn_k_proj") | ia3(CONV, 1, SIZE, 1, 1, on_input=1),
    ),
    "IA3 on SD 1's projection": Case(
        ia3(TO_K.replace("transformer_blocks_0_attn2_to_k", "proj_in"), 1, SIZE, 1, 1),
        {"A1111": LOST},
        ia3(),
    ),
    # LoKr
    "LoKr, the second half in factors": Case(
        lokr(second=True), {"InvokeAI": "none", "A1111": READ, "ComfyUI": READ}, lokr()
    ),
    "LoKr, the first half in factors": Case(
        lokr(first=True), {"InvokeAI": "none", "A1111": READ, "ComfyUI": READ}, lokr()
    ),
    "LoKr in factors beside a LoRA": Case(lokr(TO_Q, second=True) | lora(), {"InvokeAI": READ}, lora()),
    "LoKr with a Tucker core": Case(
        lokr() | _tucker_lokr(CONV),
        {"ComfyUI": LOST, "Forge": "none", "A1111": READ, "InvokeAI": READ},
        lokr(),
    ),
    "nothing that tells the base": Case(lora(CONV), {"InvokeAI": "none", "A1111": READ}, lora(CONV) | lora()),
    "SDXL, nothing that tells the base": Case(
        lora("lora_unet_input_blocks_4_1_proj_in"),
        {"InvokeAI": "none", "A1111": READ},
        lora("lora_unet_input_blocks_7_1_transformer_blocks_2_attn1_to_q"),
        "sdxl",
    ),
    # peft's spelling under kohya's names
    "lora_A under kohya's names": Case(
        lora(alpha=2.0, down="lora_A.weight"),
        _of("sd-scripts", LOST) | _of("InvokeAI, diffusers", "none") | _of("A1111, ComfyUI, Forge", READ),
        lora(alpha=2.0),
    ),
    "lora_A.default under kohya's names": Case(
        lora(down="lora_A.default.weight"),
        _of("sd-scripts, Forge", LOST) | _of("A1111, InvokeAI, diffusers", "none") | _of("ComfyUI", READ),
        lora(),
    ),
    "lora.down under kohya's names": Case(
        {key.replace("lora_down", "lora.down").replace("lora_up", "lora.up"): t for key, t in lora().items()},
        _of("sd-scripts", LOST) | _of("A1111, InvokeAI, diffusers", "none") | _of("ComfyUI, Forge", READ),
        lora(),
    ),
    "lora_A with magnitudes": Case(
        lora(alpha=2.0, down="lora_A.weight", dora_scale=torch.ones(1, SIZE)),
        {"A1111": OTHERWISE, "InvokeAI": "none"},
        lora(alpha=2.0, dora_scale=torch.ones(1, SIZE)),
    ),
    # Forge
    "lycoris_": Case(
        lora(TO_K.replace("lora_unet_", "lycoris_")), _of("Forge, ComfyUI", READ) | _of("A1111", LOST), lora()
    ),
    "lycoris_ with the original names": Case(
        lora("lycoris_input_blocks_4_1_proj_in"),
        _of("Forge, ComfyUI", LOST),
        lora("lora_unet_input_blocks_4_1_proj_in"),
        "sdxl",
    ),
    "set_weight": Case(
        _named(TO_K, set_weight=torch.ones(SIZE, SIZE)),
        _of("Forge, ComfyUI", READ) | _of("A1111, InvokeAI", "none"),
        full(),
    ),
    # OFT
    "OFT with a bound": Case(oft(0.01), {"ComfyUI": OTHERWISE, "A1111": READ}, oft(0.0)),
    "BOFT with a bound": Case(oft(0.01, stages=2), {"ComfyUI": OTHERWISE, "A1111": READ}, oft(0.0, stages=2)),
    "BOFT without alpha": Case(oft(None, stages=2), {"ComfyUI": LOST, "A1111": READ}, oft(None)),
    "OFT rescaled": Case(
        oft(0.0, rescale=torch.ones(SIZE, 1)),
        {"ComfyUI": OTHERWISE, "A1111": READ},
        oft(0.0, stages=2, rescale=torch.ones(SIZE, 1)),
    ),
    # alpha 0
    "alpha 0": Case(lora(alpha=0.0), {"sd-scripts": OTHERWISE, "A1111": READ, "ComfyUI": READ}, lora()),
    "alpha 0 in one module": Case(lora(alpha=0.0) | lora(TO_Q), {"sd-scripts": OTHERWISE}, lora()),
    "alpha 0 in one module of three": Case(
        lora(alpha=0.0) | lora(TO_Q) | lora(TO_Q.replace("attn2", "attn1")),
        {"diffusers": OTHERWISE, "A1111": READ},
        lora() | lora(TO_Q) | lora(TO_Q.replace("attn2", "attn1")),
    ),
    # the rest
    "GLoRA as LyCORIS writes it": Case(
        glora((SIZE, RANK)), {"A1111": LOST, "ComfyUI": READ, "Forge": READ}, glora((RANK, SIZE))
    ),
    "the first GLoRA on a convolution": Case(
        lora() | glora((RANK, SIZE), module=CONV, kernel=3),
        {"A1111": LOST, "ComfyUI": LOST, "Forge": "none"},
        glora((RANK, SIZE)),
    ),
    "GLoRA with an alpha": Case(
        glora((RANK, SIZE), alpha=1.0), {"A1111": OTHERWISE, "ComfyUI": READ}, glora((RANK, SIZE))
    ),
    "DoRA with a Tucker core": Case(
        lora() | lora(CONV, dora_scale=torch.ones(1, SIZE, 1, 1), lora_mid__weight=torch.ones(2, 2, 3, 3)),
        {"InvokeAI": "none"},
        lora() | lora(CONV, dora_scale=torch.ones(1, SIZE, 1, 1)),
    ),
    "flat factors of a convolution": Case(
        {key: t.flatten(1) if t.ndim else t for key, t in lora(CONV).items()},
        {"sd-scripts": "none", "A1111": READ},
        lora(CONV),
    ),
    "one prefix more": Case(
        lora(TO_K.replace("lora_unet_", "lora_unet_unet_")) | lora(),
        _of("A1111, sd-scripts, ComfyUI, Forge, InvokeAI", LOST),
        lora(),
    ),
    "a text encoder by another number": Case(
        lora(f"lora_te_1_{LAYER}_mlp_fc1") | lora(),
        _of("A1111, sd-scripts, ComfyUI, Forge, InvokeAI, stable-diffusion.cpp, diffusers", LOST),
        lora(f"{TE}{LAYER}_mlp_fc1") | lora(),
    ),
    "OneTrainer's unet. with the original names": Case(
        lora("unet.input_blocks.4.1.proj_in", down="lora_A.weight"),
        _of("ComfyUI, Forge", LOST),
        lora("diffusion_model.input_blocks.4.1.proj_in", down="lora_A.weight"),
        "sdxl",
    ),
    "text names without text_model": Case(
        lora(f"{TE}encoder_layers_0_mlp_fc1") | lora(),
        _of("A1111, sd-scripts, ComfyUI, Forge", LOST),
        lora(f"{TE}{LAYER}_mlp_fc1") | lora(),
    ),
}


def verdicts(tensors: Tensors, path: Path, family: str) -> dict[str, Verdict]:
    """By reader, of a file of these tensors."""
    save_file(
        {key: tensor.contiguous().clone() for key, tensor in tensors.items()},
        path,
        {"lorastyle.base": family},
    )
    return {verdict.reader: verdict for verdict in judge_readers(path)}


@pytest.mark.parametrize("case", CASES)
def test_what_each_program_does(case: str, tmp_path: Path) -> None:
    tensors, said, neighbour, family = CASES[case]
    found = verdicts(tensors, tmp_path / "a.safetensors", family)
    beside = verdicts(neighbour, tmp_path / "b.safetensors", family)
    for reader, expected in said.items():
        verdict = found[reader]
        if expected == "none":
            assert (verdict.state, verdict.read) == ("none", 0) and verdict.rule, reader
            assert beside[reader].state == "full", reader
            continue
        counts = sum(verdict.lost.values()), sum(verdict.changed.values())
        assert counts == expected and not verdict.rule, reader
        assert verdict.read == verdict.modules - counts[0]
        assert (verdict.state == "full") == (counts == READ)
        if counts != READ:
            assert (beside[reader].state, beside[reader].right_strength) == ("full", True), reader


@pytest.mark.parametrize(("down", "strength"), [("lora_A.weight", 2.0), ("lora_down.weight", 1.0)])
def test_a1111_drops_alpha_beside_lora_a(down: str, strength: float, tmp_path: Path) -> None:
    verdict = verdicts(lora(alpha=1.0, down=down), tmp_path / "a.safetensors", "sd1")["A1111"]
    assert verdict.strength == (strength, strength) and verdict.right_strength is (strength == 1.0)


@pytest.mark.parametrize(("modules", "refused"), [(13, True), (12, False)])
def test_forge_counts_the_tensors_that_it_leaves(modules: int, refused: bool, tmp_path: Path) -> None:
    """An alpha under a name that is looked up is not left over, whether or not its module is read."""
    tensors = lora()
    for n in range(modules):
        name = TO_Q.replace("transformer_blocks_0", f"transformer_blocks_{n}")
        tensors |= {key.replace(TO_K, name): tensor for key, tensor in oft(0.0).items()}
    verdict = verdicts(tensors, tmp_path / "a.safetensors", "sd1")["Forge"]
    assert bool(verdict.rule) is refused and verdict.read == (0 if refused else 1)
    assert "(13)" in verdict.rule if refused else verdict.lost == {"OFT is not read": 12}


@pytest.mark.parametrize(("module", "state"), [("time_emb_proj", "none"), ("conv1", "full")])
def test_invokeai_tells_the_base_by_a_width(module: str, state: str, tmp_path: Path) -> None:
    """Every Stable Diffusion embeds the step in SDXL's width, which InvokeAI takes for a sign of SDXL."""
    name = CONV.replace("conv1", module)
    wide = _named(name, lora_down__weight=torch.ones(RANK, 1280), lora_up__weight=torch.ones(SIZE, RANK))
    text = _named(TO_K, lora_down__weight=torch.ones(RANK, 768), lora_up__weight=torch.ones(SIZE, RANK))
    found = verdicts(wide | (text if state == "full" else {}), tmp_path / "a.safetensors", "sd1")
    assert found["InvokeAI"].state == state
