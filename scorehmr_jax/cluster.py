"""Joins the processes of a job that runs on several machines.

    python train.py NAME ...                                      one process
    srun -N 4 --ntasks-per-node 1 python train.py NAME ...        SLURM: nothing more
    python train.py NAME ... --coordinator HOST:PORT --processes 4 --process-id 0    by hand

`evaluate.py` and `scorehmr refine` take the same options.

In Kubernetes (GKE), an Indexed Job gives every pod JOB_COMPLETION_INDEX; its manifest sets
JAX_COORDINATOR_ADDRESS, the address of pod 0 with a port, and JAX_NUM_PROCESSES. On TPU slices JAX
knows by itself.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np


@dataclass(frozen=True)
class Start:
    """Arguments of `jax.distributed.initialize`."""

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    cluster_detection_method: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --coordinator, --processes and --process-id, the arguments of `start`."""
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, of several")
    parser.add_argument("--processes", type=int, metavar="N", help="number of processes")
    parser.add_argument("--process-id", type=int, metavar="I", help="of this process, from 0")


def plan(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Start | None:
    """Finds out how this process joins the others: explicit values, else the environment.

    Args:
        coordinator: host:port of process 0.
        processes: how many there are.
        process_id: this one's number, from 0.
        environ: the environment.
    Returns:
        None for a process without others.
    Raises:
        ValueError: if only some of the values are given, or one makes no sense.
    """
    explicit = {"--coordinator": coordinator, "--processes": processes, "--process-id": process_id}
    if any(value is not None for value in explicit.values()):
        return _checked(explicit)
    if "JAX_COORDINATOR_ADDRESS" in environ:
        index = "JAX_PROCESS_ID" if "JAX_PROCESS_ID" in environ else "JOB_COMPLETION_INDEX"
        names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", index)
        return _checked({name: environ.get(name) for name in names})
    if int(environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in environ:
        return Start(cluster_detection_method="slurm")
    # Set by GKE and Cloud TPU on every worker of a slice.
    hosts = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts:
        return Start()
    return None


def _checked(given: Mapping[str, str | int | None]) -> Start:
    missing = [name for name, value in given.items() if value is None]
    if missing:
        found = ", ".join(name for name in given if name not in missing)
        raise ValueError(f"{', '.join(missing)}: expected beside {found}; give all three or none")
    (_, address), (count_name, count), (id_name, number) = given.items()
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"coordinator: expected host:port, found {address}")
    try:
        processes, process_id = int(count or 0), int(number or 0)
    except ValueError:
        raise ValueError(
            f"{count_name}, {id_name}: expected whole numbers, found {count}, {number}"
        ) from None
    if not 0 <= process_id < processes:
        raise ValueError(f"{id_name}: expected 0 to {processes - 1}, found {process_id}")
    return Start(str(address), processes, process_id)


def start(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a run, if there are several. Call it before any other use of jax.

    Args:
        coordinator: host:port of process 0; with None the environment decides.
        processes: number of processes.
        process_id: number of this process, from 0.
    Raises:
        ValueError: as `plan`.
    """
    found = plan(coordinator, processes, process_id)
    if found is None or found.num_processes == 1:
        return
    jax.distributed.initialize(
        found.coordinator_address,
        found.num_processes,
        found.process_id,
        cluster_detection_method=found.cluster_detection_method,
    )


def is_main() -> bool:
    """Returns True in the process that writes files and prints."""
    return jax.process_index() == 0


def all_agree(yes: bool) -> bool:
    """Returns True in every process if `yes` is true in all of them."""
    if jax.process_count() == 1:
        return yes
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(yes)).all())


def from_all(array: np.ndarray) -> np.ndarray:
    """Returns the arrays of all processes [P, ...]; all have to ask, with one shape and dtype."""
    if jax.process_count() == 1:
        return array[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))


def wait_for_all(what: str) -> None:
    """Waits until every process has come here; `what` must be the same in all."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)
