"""MLflow: a tracking server, or an SQLite file in the run folder."""

from __future__ import annotations

import time
from typing import Any

from janus.train.loggers import Options as BaseOptions
from janus.train.loggers import Run, flatten, need
from schemas.files import write_file

FILE = "mlflow_run_id"
"""In the run folder: names the MLflow run that a continued run continues."""
PARAMETER_LENGTH = 500
"""Longest value of a parameter that every MLflow store takes."""


class Options(BaseOptions):
    """Where the run appears."""

    uri: str = ""
    """Tracking server, http(s)://... or sqlite:///...; empty for `RUN/mlflow.db`."""
    experiment: str = "janus-forge"
    """Experiment; made if it is not there."""


class Logger:
    """Logs each line to one MLflow run, which a continued run continues."""

    def __init__(self, run: Run, options: Options) -> None:
        mlflow = need("mlflow", logger="mlflow")
        self._metric = mlflow.entities.Metric
        uri = options.uri or f"sqlite:///{run.folder.resolve() / 'mlflow.db'}"
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        memory = run.folder / FILE
        if memory.is_file():
            self._id = memory.read_text().strip()
            self._client.update_run(self._id, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(options.experiment)
        where = experiment.experiment_id if experiment else self._client.create_experiment(options.experiment)
        self._id = self._client.create_run(where, run_name=run.folder.name).info.run_id
        params = [mlflow.entities.Param(k, str(v)[:PARAMETER_LENGTH]) for k, v in _settings(run.recipe).items()]
        self._client.log_batch(self._id, params=params)
        write_file(memory, self._id)

    def write(self, line: dict[str, Any]) -> None:
        """Log one line's numbers at its step. Of a step done again MLflow keeps both values, and shows the later."""
        now = int(time.time() * 1000)
        numbers = {name: value for name, value in flatten(line).items() if name != "step"}
        self._client.log_batch(self._id, metrics=[self._metric(k, v, now, line["step"]) for k, v in numbers.items()])

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._id)


def _settings(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        flat |= _settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
