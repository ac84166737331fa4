"""Running a step over many shards on a named Beam engine (design D4).

driver.py       run_step: shards in, results out, counted
runners.py      which Beam runner, with which options
processes.py    the local engine's worker processes, watched: a killed or stopped one ends the build
dofn.py         what Beam calls on a worker; shard_run.py what that does for one shard
journal.py      how workers report rows, results and failures to the driver
failures.py     what can go wrong, and what is worth another try
bars.py         progress on a terminal

One Beam element is one shard descriptor. The step reads and writes the shard's files itself, in one fused DoFn, so no
pixel crosses a shuffle. An exception in one shard is recorded and the others go on. What went in and what came out is
counted: a result that is missing is an error, whatever the engine said.
"""

from pipelines.engine.driver import OnProgress, Progress, run_folder_in, run_step
from pipelines.engine.failures import DiskFull, Failure, StepFailed, WorkerLost, is_retryable
from pipelines.engine.runners import LIGHT_ROWS
from pipelines.engine.shard_run import ShardStep

__all__ = [
    "LIGHT_ROWS",
    "DiskFull",
    "Failure",
    "OnProgress",
    "Progress",
    "ShardStep",
    "StepFailed",
    "WorkerLost",
    "is_retryable",
    "run_folder_in",
    "run_step",
]
