"""The training processes on several hosts or devices, from arguments or from the environment of the job."""

import dataclasses
import os
import re
from collections.abc import Mapping

from keras_recnet.errors import ConfigError
from keras_recnet.parallel import Shard


@dataclasses.dataclass(frozen=True)
class Processes:
    """The training processes.

    Attributes:
        count: number of processes.
        index: index of this one; process 0 writes logs and checkpoints.
        coordinator: `host:port` of process 0; None for a single process.
    """

    count: int = 1
    index: int = 0
    coordinator: str | None = None

    @property
    def shard(self) -> Shard | None:
        """The part of the data that this process reads; None for all."""
        return Shard(self.index, self.count) if self.count > 1 else None


def find_processes(
    count: int | None = None,
    index: int | None = None,
    coordinator: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> Processes:
    """Determine the processes of this training run from arguments or, where these are None, from environment variables.

    Number of processes: `JAX_NUM_PROCESSES`, `KERAS_DISTRIBUTION_NUM_PROCESSES` or, inside `srun`,
    `SLURM_STEP_NUM_TASKS`. Index: `JAX_PROCESS_ID`, `KERAS_DISTRIBUTION_PROCESS_ID`, `SLURM_PROCID` or, in an indexed
    Job of Kubernetes, `JOB_COMPLETION_INDEX`. Coordinator: `JAX_COORDINATOR_ADDRESS` or
    `KERAS_DISTRIBUTION_JOB_ADDRESSES`; with Slurm, the first host of the step and a port derived from the job's number.

    Raises:
        ConfigError: if there are several processes, but index or coordinator is unknown or invalid.
    """

    def number(value, *names):
        for name in names:
            if value is None and name in environment:
                if not environment[name].isdecimal():
                    raise ConfigError(f"{name}: must be a whole number. Received: {environment[name]!r}")
                value = int(environment[name])
        return value

    count = number(count, "JAX_NUM_PROCESSES", "KERAS_DISTRIBUTION_NUM_PROCESSES", "SLURM_STEP_NUM_TASKS")
    if count in (None, 1):
        return Processes()
    index = number(index, "JAX_PROCESS_ID", "KERAS_DISTRIBUTION_PROCESS_ID", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
    for name in ("JAX_COORDINATOR_ADDRESS", "KERAS_DISTRIBUTION_JOB_ADDRESSES"):
        coordinator = coordinator or environment.get(name, "").partition(",")[0]
    coordinator = coordinator or _slurm_coordinator(environment)
    if index is None or not 0 <= index < count:
        raise ConfigError(
            f"--process: must be 0…{count - 1}, the index of this process. Set it, or JAX_PROCESS_ID. Received: {index}"
        )
    if not coordinator or ":" not in coordinator:
        raise ConfigError(
            f"--coordinator: must be HOST:PORT, where process 0 listens. Set it, or JAX_COORDINATOR_ADDRESS. Received: "
            f"{coordinator!r}"
        )
    return Processes(count, index, coordinator)


def _slurm_coordinator(environment):
    nodes = re.match(r"([^,\[]+)(?:\[(\d+))?", environment.get("SLURM_STEP_NODELIST", ""))
    if not nodes or "SLURM_JOB_ID" not in environment:
        return None
    # a port in the upper range, so that two jobs on a host rarely use the same one
    return f"{nodes[1]}{nodes[2] or ''}:{61440 + int(environment['SLURM_JOB_ID']) % 4096}"
