"""`lorastyle verify`: do two files hold the same adapter?"""

from __future__ import annotations

from pathlib import Path

from .console import say
from .modules import modules_for

_SHOWN = 3


def verify(first: Path, second: Path, /, *, base: str | None = None, tolerance: float = 2e-3) -> int:
    """Compare the updates of two adapter files, whatever their forms, module by module.

    Ends with exit code 0 where they are alike, and 1 where they are not.

    Args:
        first, second: .safetensors files, or peft folders.
        base: what they were made for, where it is none of Stable Diffusion 1.x, 2.x and XL.
        tolerance: how far apart a module's updates may be, relative to the first's. Rounding to float16 stays
            below 0.002, to bfloat16 below 0.02.
    """
    from lorastyle.adapters import compare_adapters, load_adapter

    modules = modules_for(first, base)
    a = load_adapter(first, modules)
    b = load_adapter(second, modules if base else modules_for(second, base))
    found = compare_adapters(a, b, modules)
    say(f"in both: {found.modules} modules")
    for where, places in ((first, found.only_first), (second, found.only_second)):
        if places:
            more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
            say(f"only in {where}: {', '.join(places[:_SHOWN])}{more}")
    say(
        f"largest difference: {found.largest:.2g}"
        + (f" (at {found.where})" if found.where else "")
        + f"; the largest update is {found.reach:.2g}"
    )
    say(f"largest difference of a module, relative: {found.relative:.2g}")
    alike = found.alike(tolerance)
    say("the same adapter" if alike else "not the same adapter", style="green" if alike else "red")
    return 0 if alike else 1
