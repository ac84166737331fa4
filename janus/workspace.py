"""The workspace file: what commands take where the command line does not say.

`janus-forge.toml` in the working directory, or in the nearest folder above it that has one. Its paths are relative to
itself. The command line wins; without a file there are no defaults, and commands ask for what they need.

Imports neither torch nor transformers: commands read it before anything slow.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic

from janus.cli import UserError, console, escape, program
from schemas.manifest import LATEST, load_snapshot
from schemas.plugins import did_you_mean
from storage.places import is_url, join

FILE = "janus-forge.toml"
HERE = "{here}"
"""In values of `variables`: the folder of the workspace file."""


class Workspace(pydantic.BaseModel):
    """The contents of a workspace file. Paths lead from the working directory."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    file: str = ""
    """Where it stands; empty for none."""
    preset: str = ""
    """Preset of training."""
    model: str = ""
    """Model folder that stage 1 starts from, and that corpora are made with."""
    corpora: str = "runs/corpora"
    """Folder or address (s3://, gs://, az://) of corpora."""
    runs: str = "runs"
    """Folder of runs: stage N of a preset is trained in RUNS/PRESET/stageN."""
    benchmarks: str = ""
    """Folder of the benchmarks' files."""
    specs: dict[Literal["1", "2", "3"], str] = {}
    """Stage to the corpus spec that is built for it."""
    variables: dict[str, str] = {}
    """Values of the specs' {variables}. `janus` is `model` where it is not named."""
    serve: dict[str, str] = {}
    """Folders to serve on 127.0.0.1 while a corpus is built, by the "host:port" they stand for."""

    def spec(self, stage: int) -> str:
        """The corpus spec of a stage. Raises UserError where there is none."""
        try:
            return self.specs[str(stage)]  # type: ignore[index]
        except KeyError:
            raise UserError(f"no corpus spec given, and {self.file or FILE} names none for stage {stage}") from None

    @property
    def served(self) -> dict[str, str]:
        """Those folders of `serve` that are there: a corpus of the user's own needs none of them."""
        return {host: folder for host, folder in self.serve.items() if Path(folder).is_dir()}

    def run_folder(self, preset: str, stage: int) -> Path:
        """Where a stage is trained."""
        return Path(self.runs, preset, f"stage{stage}")

    def starting_model(self, preset: str, stage: int) -> Path:
        """The model a stage starts from: that of the stage before, or `model`.

        Raises FileNotFoundError with one line that says how to make it.
        """
        if stage > 1:
            model = self.run_folder(preset, stage - 1) / "model"
            if not _is_model(model):
                before = f"{program('python -m janus.train')} --stage {stage - 1}"
                raise FileNotFoundError(
                    f"{model}: no model of stage {stage - 1}; train it with `{before}`, or name another with --model"
                )
            return model
        if not self.model:
            raise UserError(f"--model is missing, and {self.file} names none")
        self.check_model("with --model")
        return Path(self.model)

    def check_model(self, option: str) -> None:
        """Raise FileNotFoundError with one line, which ends with `option`, unless the workspace's model is there."""
        if self.model and not _is_model(Path(self.model)):
            raise FileNotFoundError(
                f"{self.model}: no model there, which {self.file} names; `make demo` leaves one in "
                f"runs/demo/base/janus, `python -m janus.assemble` makes one; or name another {option}"
            )

    def settled(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The variables of a corpus spec: those given, and the workspace's others."""
        return {**({"janus": self.model} if self.model else {}), **self.variables, **variables}

    def newest_corpus(self, stage: int) -> str:
        """The corpus of a stage that was published last. At an address: the one that the spec of the stage makes.

        Raises FileNotFoundError with one line that says how to build it, ValueError for a corpus that cannot be read.
        """
        for corpus in self._corpora(stage):
            if load_snapshot(corpus).stage == stage:
                return corpus
        spec = self.specs.get(str(stage), "SPEC")  # type: ignore[call-overload]
        raise FileNotFoundError(
            f"{self.corpora}: no corpus of stage {stage}; build it with "
            f"`prefect deployment run build-stage{stage}-corpus` or "
            f"`python -m flows.corpus build {spec}`, or name another with --data"
        )

    def all_corpora(self) -> list[str]:
        """The folders of `corpora` with a published snapshot, the newest first; not those at an address."""
        if is_url(self.corpora):
            return []
        latest = sorted(Path(self.corpora).glob(f"*/{LATEST}"), key=lambda path: (-path.stat().st_mtime_ns, path))
        return [str(path.parent) for path in latest]

    def _corpora(self, stage: int) -> list[str]:
        if not is_url(self.corpora):
            return self.all_corpora()
        with open(self.spec(stage), "rb") as file:
            return [join(self.corpora, tomllib.load(file)["name"])]

    def trained_model(self) -> tuple[Path, int]:
        """The model of the last stage that is done, and that stage. Raises FileNotFoundError where none is."""
        for stage in (3, 2, 1):
            model = self.run_folder(self.preset, stage) / "model"
            if _is_model(model):
                return model, stage
        raise FileNotFoundError(
            f"{Path(self.runs, self.preset)}: no trained model; train one with `python -m janus.train --stage 1`, "
            "or name one"
        )


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def find_workspace() -> Workspace | None:
    """The workspace of the working directory: its file there, or in the nearest folder above.

    Raises ValueError with one line that names file and field.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return _read(Path(os.path.relpath(folder)))
    return None


def needed_workspace(missing: str) -> Workspace:
    """The workspace, of a command that does not go on without one. Raises UserError that begins with `missing`."""
    found = find_workspace()
    if found is None:
        raise UserError(f"{missing}, and there is no {FILE} here or in a folder above that would say")
    return found


def needed_model(missing: str) -> tuple[Path, int]:
    """The workspace's newest model, and the stage it is of; says which.

    Raises UserError that begins with `missing` where there is no workspace, FileNotFoundError where it has no model.
    """
    workspace = needed_workspace(missing)
    model, stage = workspace.trained_model()
    console().print(f"[dim]model by {escape(workspace.file)}: {escape(str(model))}[/]")
    return model, stage


def _read(folder: Path) -> Workspace:
    file = folder / FILE
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not valid TOML: {error}") from None
    known = Workspace.model_fields.keys() - {"file"}
    for name in values:
        if name not in known:
            raise ValueError(f"{file}: {name}: no such setting{did_you_mean(name, known)}")
    try:
        found = Workspace.model_validate(values | {"file": str(file)})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{file}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def place(value: str) -> str:
        return value if not value or is_url(value) else str(folder / value)

    changes: dict[str, Any] = {name: place(getattr(found, name)) for name in ("model", "corpora", "runs", "benchmarks")}
    for name in ("specs", "serve"):
        changes[name] = {key: place(value) for key, value in getattr(found, name).items()}
    changes["variables"] = {
        name: os.path.normpath(value.replace(HERE, str(folder))) if HERE in value else value
        for name, value in found.variables.items()
    }
    return found.model_copy(update=changes)
