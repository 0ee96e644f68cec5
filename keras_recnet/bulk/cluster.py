"""Ray: connect to a cluster or start one on this machine, and choose the number of actors."""

import contextlib
import logging
import os
from collections.abc import Iterator

from keras_recnet.errors import DataError, MissingExtraError
from keras_recnet.files import silence_stderr
from keras_recnet.parallel import cores

OBJECT_STORE = 128 * 2**20  # bytes; paths and counts pass through it, but no images


def import_ray():
    """Import and return Ray with Ray Data.

    Raises:
        MissingExtraError: if it is not installed.
    """
    # read when Ray is imported and started
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'Bulk prediction needs Ray: pip install "keras-recnet[ray]". Missing: {error.name}'
        ) from error
    return ray


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster for the duration of the block, or start Ray on this machine.

    Does nothing if this process is already connected.

    Args:
        address: address of a cluster, or `"auto"` for the one that this machine belongs to; None starts Ray.

    Raises:
        DataError: if there is no cluster at the address.
        MissingExtraError: if Ray is not installed.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        # with a single CPU, the actor would leave none for Ray's other tasks
        options |= {"num_cpus": max(2, cores()), "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        with silence_stderr():
            ray.init(address or "local", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DataError(
            f"--address {address}: cannot connect to Ray ({error}). Check the address, or omit --address to use this "
            f"machine."
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures are reported by `Job`
    try:
        yield
    finally:
        ray.shutdown()


def actor_options(actors: int | None, gpus_per_actor: float | None, engine: str | None) -> dict:
    """Return the arguments of `Dataset.map` for a pool of actors. See `keras_recnet.bulk.predict`."""
    ray = import_ray()
    if not ray.is_initialized():
        ray.init()
    resources = ray.cluster_resources()
    if gpus_per_actor is None:
        gpus_per_actor = 1 if engine == "keras" and resources.get("GPU") else 0
    return {
        "compute": ray.data.ActorPoolStrategy(size=actors or default_actors(gpus_per_actor)),
        "num_gpus": gpus_per_actor or None,
        "num_cpus": 1,
    }


def default_actors(gpus_per_actor: float) -> int:
    """Return the number of actors that the cluster has room for."""
    ray = import_ray()
    resources = ray.cluster_resources()
    if gpus_per_actor:
        return max(1, int(resources.get("GPU", 0) / gpus_per_actor))
    machines = sum(node["Alive"] for node in ray.nodes())
    # Ray Data needs a free CPU for its other tasks: with as many actors as CPUs it hangs (ray#44687)
    return max(1, int(resources.get("CPU", 1)) - machines)
