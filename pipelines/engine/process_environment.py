"""Beam's side of the local engine's worker processes: who starts them, and what they are told to connect to."""

from __future__ import annotations

from typing import Any

from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.transforms.environments import Environment
from google.protobuf import json_format, text_format

from pipelines.engine.processes import WorkerProcesses

URN = "janus_forge:env:processes:v1"


@Environment.register_urn(URN, bytes)
class ProcessEnvironment(Environment):
    """Processes of this machine, started by the WorkerProcesses of that key."""

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self.key = key

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """URN and payload, as Beam keeps an environment in a pipeline."""
        return URN, self.key

    @staticmethod
    def from_runner_api_parameter(payload: bytes, *_: Any) -> ProcessEnvironment:
        """The environment of a payload."""
        return ProcessEnvironment(payload)


@WorkerHandler.register_environment(URN, bytes)
class ProcessHandler(GrpcWorkerHandler):
    """One worker process, as the runner sees it."""

    def __init__(self, payload: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._workers = WorkerProcesses.by_key(payload)

    def start_worker(self) -> None:
        """Start the process. Without a logging service: what it has to say, it says on its standard error."""
        control = endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
        environment = {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(control),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
            "WORKER_ID": self.worker_id,
        }
        self._workers.start(self.worker_id, environment, self.control_conn.abort)

    def stop_worker(self) -> None:
        """End the process; the runner has closed its connection."""
        self._workers.stop(self.worker_id)
