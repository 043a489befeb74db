"""Everything that the Train tab does, without a page: plans, and runs in a library folder, by name."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorastyle.bases import FOR_TRAINING, StableDiffusion, default_memory
from lorastyle.errors import ConfigError, LorastyleError
from lorastyle.train import (
    Dataset,
    Plan,
    RunFolder,
    RunStatus,
    TrainConfig,
    default_trigger,
    launch,
    list_runs,
    make_plan,
    observe,
    printed,
    request_stop,
    restart,
)

from .places import explain, without_folders
from .tray import Tray, Verdict

NAMED = "my-style"
_NAME = re.compile(r"\w(?:[\w -]{0,62}\w)?")
_RESERVED = re.compile(r"con|prn|aux|nul|(?:com|lpt)\d", re.IGNORECASE)  # devices of Windows


@dataclass(frozen=True)
class TrainForm:
    """What stands in the fields. Empty ones are decided by the plan."""

    name: str = ""
    trigger: str = ""
    kind: str = ""
    class_name: str = ""
    steps: int | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Prospect:
    """What would be trained.

    Attributes:
        verdicts: one for each file.
        plan: None where nothing can be trained yet.
        problem: why not, in words; empty where there is a plan, or no picture.
        name, trigger: what they are where the fields are left empty.
        notes: of the pictures as a whole.
    """

    verdicts: list[Verdict]
    plan: Plan | None = None
    problem: str = ""
    name: str = NAMED
    trigger: str = ""
    notes: tuple[str, ...] = ()


class Trainings:
    """The runs of one library folder, for one base. Runs are called by the names of their adapters.

    Args:
        library: where adapters are kept, and the folders of runs beside them.
        base: the base that the page draws with, for plans; the process that trains loads its own.
        environment: variables of that process, on top of ours.
    """

    def __init__(
        self,
        library: Path,
        base: Callable[[], StableDiffusion],
        *,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.library = library.absolute()
        self._base, self._environment = base, environment
        self._starting = threading.Lock()

    def look(self, tray: Tray, form: TrainForm) -> Prospect:
        """The verdicts, and the plan where there can be one. Nothing is started."""
        name = form.name.strip() or self.free_name(NAMED)
        trigger = form.trigger.strip() or suggested_trigger(name)
        if tray.dataset is None:
            problem = "None of these pictures can be used." if len(tray) else ""
            return Prospect(tray.verdicts(None), problem=problem, name=name, trigger=trigger)
        dataset: Dataset = tray.dataset.meaning(trigger=trigger)
        try:
            config = self._config(form, name, trigger, tray.folder)
            dataset = tray.dataset.meaning(
                trigger=config.trigger, class_name=config.class_name, kind=config.kind
            )
            plan = make_plan(config, self._base(), dataset)
        except LorastyleError as error:
            return Prospect(tray.verdicts(dataset), None, explain(error), name, trigger)
        return Prospect(tray.verdicts(dataset, plan.notes), plan, "", name, trigger, dataset.notes)

    def start(self, tray: Tray, form: TrainForm) -> str:
        """Start a training of these pictures in a process of its own; returns its name.

        Raises:
            LorastyleError: fields that cannot be used (all of them told), a name that is taken, no picture,
                or another training that is at work.
        """
        prospect = self.look(tray, form)
        if prospect.plan is None:
            raise ConfigError(prospect.problem or "There are no pictures yet. Drop five to twenty.")
        with self._starting:
            if busy := self.active():
                raise ConfigError(f"{busy[0]} is being trained. Wait for its end, or stop it.")
            run = RunFolder(self._adapter(prospect.name))
            before = observe(run.adapter)
            stopped = before.state == "stopped" and before.adapter == run.adapter
            if run.adapter.exists() and not stopped:  # half an adapter may be replaced, a whole one not
                free = self.free_name(prospect.name)
                raise ConfigError(f'There is an adapter "{prospect.name}". Name this one "{free}", say.')
            pictures = run.path / "pictures"
            try:
                run.path.mkdir(parents=True, exist_ok=True)
                tray.copy_to(pictures)
            except OSError as error:
                raise ConfigError(
                    f"The pictures cannot be kept in the library ({error.strerror})."
                ) from error
            config = self._config(form, prospect.name, prospect.trigger, pictures)
            launch(config, environment=self._environment)
        return prospect.name

    def stop(self, name: str) -> bool:
        """Ask a run to save what there is and to end; False where none of that name is at work."""
        return name in self.names() and request_stop(self._adapter(name))

    def go_on(self, name: str) -> None:
        """Start an ended run again, from its checkpoint where there is one.

        Raises:
            LorastyleError: there is no such run, it is at work, or another one is.
        """
        if name not in self.names():
            raise ConfigError("There is no such training any more.")
        with self._starting:
            if busy := self.active():
                raise ConfigError(f"{busy[0]} is being trained. Wait for its end, or stop it.")
            restart(self._adapter(name), environment=self._environment)

    def names(self) -> list[str]:
        """Of all runs, the newest first."""
        return [adapter.stem for adapter in list_runs(self.library)]

    def active(self) -> list[str]:
        """Of those at work, whoever started them."""
        return [name for name in self.names() if observe(self._adapter(name)).active]

    def status(self, name: str) -> RunStatus | None:
        """What a run is at; None where there is none of that name."""
        return observe(self._adapter(name)) if name in self.names() else None

    def printed(self, name: str) -> str:
        """What its process printed last, without paths of this machine."""
        return without_folders(printed(self._adapter(name)), [self.library]) if name in self.names() else ""

    def shelf(self) -> str:
        """Another text whenever an adapter in the library came, went or changed."""
        try:
            files = sorted(self.library.glob("*.safetensors"))
            return "\n".join(f"{file.name} {file.stat().st_mtime_ns}" for file in files)
        except OSError:  # it went away between listing and looking; the next look tells
            return ""

    def free_name(self, name: str) -> str:
        """`name`, or `name-2` where there is an adapter or a run of that name."""
        names = [name, *(f"{name}-{number}" for number in range(2, 10_000))]
        return next((n for n in names if not self._adapter(n).exists() and n not in self.names()), name)

    def _adapter(self, name: str) -> Path:
        return self.library / f"{name}.safetensors"

    def _config(self, form: TrainForm, name: str, trigger: str, pictures: Path) -> TrainConfig:
        problems = list(name_problems(name))
        try:
            config = TrainConfig(
                images=str(pictures),
                out=str(self._adapter("adapter" if problems else name)),
                base=self._base().name,
                name="adapter" if problems else name,
                trigger=trigger,
                kind=form.kind or None,
                class_name=form.class_name.strip() or None,
                steps=form.steps,
                rank=form.rank,
                memory=default_memory(FOR_TRAINING),
            )
        except ConfigError as error:
            raise ConfigError([*problems, *error.problems]) from error
        if problems:
            raise ConfigError(problems)
        return config


def suggested_trigger(name: str) -> str:
    """As the command line makes it of a folder of that name: `My Cat` is mycat."""
    return default_trigger(Path("/", re.sub(r"[/\\]", " ", name) or NAMED))


def name_problems(name: str) -> list[str]:
    """Why a name cannot be that of a file on every system: what is wrong, what is allowed."""
    if _NAME.fullmatch(name) and not _RESERVED.fullmatch(name):
        return []
    better = re.sub(r"[^\w -]+", "-", name).strip(" -")[:64].strip(" -")
    better = "my-" + better if _RESERVED.fullmatch(better) else better or NAMED
    shown = name if len(name) <= 64 else f"{name[:61]}..."
    return [
        f'"{shown}" cannot be a name: letters, digits, spaces, - and _ can, up to 64 of them; try "{better}".'
    ]
