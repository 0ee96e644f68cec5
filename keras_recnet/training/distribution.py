"""Data-parallel training on several devices, hosts or processes, with the JAX backend.

Every process holds a replica of the model and reads its part of each batch; JAX averages the gradients. What one
process does alone (data, features, validation of a part of the images, checkpoints, presets) uses a local copy of the
model, because a computation with the replicated weights needs all processes.
"""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

from keras_recnet.errors import ConfigError, DataError, ProcessLostError
from keras_recnet.training.ema import averaged_values, averaged_weights
from keras_recnet.training.processes import Processes

STARTUP_SECONDS = 3600  # the processes check their data before they connect
STOP_INTERVAL = 10  # steps between two checks whether any process has to stop


class SingleDevice:
    """Training on the default device, in one process."""

    processes = Processes()
    is_main = True

    def replicate(self, model: keras.Model) -> keras.Model:
        """Return the model to train: `model`, or a copy of it in `scope`."""
        return model

    def scope(self) -> contextlib.AbstractContextManager:
        """Return the context in which the trained model is compiled and fitted."""
        return contextlib.nullcontext()

    def lost_process(self) -> contextlib.AbstractContextManager:
        """Return a context that raises a `ProcessLostError` if another process has ended."""
        return contextlib.nullcontext()

    def main_first(self) -> contextlib.AbstractContextManager:
        """Return a context that process 0 enters and leaves before the others enter it."""
        return contextlib.nullcontext()

    def wait(self) -> None:
        """Wait for all processes."""

    def eval_weights(self, model: keras.Model) -> contextlib.AbstractContextManager:
        """Return a context that yields a model, for this process alone, with the EMA of the weights of `model`."""
        return averaged_weights(model)

    def any(self, value: bool) -> bool:
        """Return whether `value` is true in any process."""
        return value

    def same(self, value: int) -> bool:
        """Return whether `value` is the same in all processes."""
        return True

    def add(self, variables: list[keras.Variable]) -> None:
        """Replace the values of variables with their sums over all processes."""


class DataParallel(SingleDevice):
    """Training on all devices of all processes.

    Args:
        processes: the processes. Waits until all of them are started.
        batch_size: samples per step, over all processes.

    Raises:
        ConfigError: if Keras uses a backend other than JAX, or the batch size cannot be divided among the devices.
        DataError: if the processes cannot connect.
    """

    def __init__(self, processes: Processes, batch_size: int):
        backend = keras.backend.backend()
        if backend != "jax":
            raise ConfigError(
                f"distribution: data_parallel needs the JAX backend: set the environment variable KERAS_BACKEND=jax. "
                f"`fit` of Keras 3 does not support several devices on other backends "
                f"(https://github.com/keras-team/keras/issues/20585). Received: backend {backend!r}"
            )
        import jax

        if processes.count > 1:
            try:
                jax.distributed.initialize(
                    processes.coordinator,
                    processes.count,
                    processes.index,
                    initialization_timeout=STARTUP_SECONDS,
                )
            except (RuntimeError, ValueError) as error:
                raise DataError(
                    f"--coordinator {processes.coordinator}: the processes cannot connect ({error}). Check the "
                    f"address, and that all {processes.count} processes are started."
                ) from error
        self.processes, self.is_main = processes, processes.index == 0
        devices = jax.device_count()
        if batch_size % devices:
            raise ConfigError(
                f"batch_size: must be a multiple of the {devices} devices, among which each batch is divided. "
                f"Received: batch_size={batch_size}"
            )
        self._distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        self._local = None
        self._barriers = 0

    def replicate(self, model):
        self._local = model
        replica = type(model).from_config(model.get_config())
        for variable, value in zip(replica.variables, model.variables, strict=True):
            variable.assign(self._gather(_to_numpy(value))[0])  # of process 0, which may have trained a part already
        return replica

    def scope(self):
        return self._distribution.scope()

    @contextlib.contextmanager
    def lost_process(self) -> Iterator[None]:
        import jax

        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if self.processes.count == 1 or "RESOURCE_EXHAUSTED" in str(error):  # out of memory
                raise
            raise ProcessLostError(
                f"Another process of this training run has ended or is unreachable. See its messages, then start all "
                f"{self.processes.count} processes again with --resume. ({str(error).partition(chr(10))[0]})"
            ) from error

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    @contextlib.contextmanager
    def eval_weights(self, model):
        self._local.set_weights(averaged_values(model))
        yield self._local

    def any(self, value):
        return bool(self._gather(np.array(value)).any())

    def same(self, value):
        return len(set(self._gather(np.array(value)).tolist())) == 1

    def add(self, variables):
        if self.processes.count == 1:
            return
        for variable in variables:
            variable.assign(self._gather(_to_numpy(variable)).sum(axis=0).astype(variable.dtype))

    def _gather(self, value):
        if self.processes.count == 1:
            return value[None]
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(value)).reshape(-1, *value.shape)

    def wait(self):
        if self.processes.count > 1:
            from jax.experimental import multihost_utils

            self._barriers += 1
            multihost_utils.sync_global_devices(f"keras_recnet {self._barriers}")


def _to_numpy(variable):
    return keras.ops.convert_to_numpy(variable)
