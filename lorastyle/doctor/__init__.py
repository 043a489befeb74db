"""What is here to work with, and what is wrong with it: the facts behind `lorastyle doctor`.

Every room looks at one thing and answers with plain data; `examine` asks them all and survives what is
broken. Importing this package does not import torch, for the doctor must be able to speak when it is torch
that is broken.
"""

from __future__ import annotations

from .bases import BaseAtHand, Bases
from .devices import Device, Hardware
from .places import Place
from .private import private
from .problems import Problem
from .rates import Rate
from .report import Report, examine
from .selftest import Check, SelfTest
from .settings import Settings
from .software import Extra, Package, Software, look_at_software

__all__ = [
    "BaseAtHand",
    "Bases",
    "Check",
    "Device",
    "Extra",
    "Hardware",
    "Package",
    "Place",
    "Problem",
    "Rate",
    "Report",
    "SelfTest",
    "Settings",
    "Software",
    "examine",
    "look_at_software",
    "private",
]
