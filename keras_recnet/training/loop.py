"""The training loop: train and validate each epoch, write checkpoints and logs, stop on request."""

import dataclasses
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np

from keras_recnet import optimizers
from keras_recnet.errors import RecNetError
from keras_recnet.pipelines.batches import ThreadedBatches
from keras_recnet.training import sample_sheet
from keras_recnet.training.checkpoints import CheckpointFolder, training_variables
from keras_recnet.training.config.loading import Config
from keras_recnet.training.data import Data
from keras_recnet.training.distribution import STOP_INTERVAL, SingleDevice
from keras_recnet.training.logs import Logs
from keras_recnet.training.progress import Progress, format_duration


@dataclasses.dataclass
class State:
    """State of a run other than the variables of the model and the optimizer; part of every checkpoint.

    Attributes:
        step: optimizer steps so far.
        epoch: index of the current epoch, from 0.
        epoch_step: steps of the current epoch so far.
        loss_sum: sum of the training loss over these steps.
        seconds: training time so far, over all resumptions.
        history: one row per finished epoch.
        config: `Config.fixed()`.
        data: `Data.fingerprint`.
    """

    step: int = 0
    epoch: int = 0
    epoch_step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict] = dataclasses.field(default_factory=list)
    config: dict = dataclasses.field(default_factory=dict)
    data: str = ""

    @classmethod
    def from_dict(cls, values: dict) -> "State":
        """Create the state from a checkpoint; entries of other versions of the library are ignored."""
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values})

    def best(self) -> dict | None:
        """Return the row of the epoch with the lowest validation error, or None if no epoch has a finite error."""
        rows = [row for row in self.history if math.isfinite(row.get("val_mae", math.nan))]
        return min(rows, key=lambda row: row["val_mae"], default=None)


class StopSignal(keras.callbacks.Callback):
    """Requests a stop on SIGINT or SIGTERM, and says so; a second signal raises KeyboardInterrupt.

    As a callback of `evaluate`, it stops the evaluation.

    Attributes:
        requested: whether a signal was received.
    """

    def __init__(self):
        super().__init__()
        self.requested = False
        self._previous = {}

    def __enter__(self):
        # Python allows only the main thread to set signal handlers
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_test_batch_end(self, batch, logs=None):
        if self.requested:
            self.model.stop_evaluating = True

    def _handle(self, number, frame):
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # `print` is not allowed to interrupt itself
        os.write(2, b"\nStopping after this step; once more stops at once, without a checkpoint.\n")


@dataclasses.dataclass
class Loop:
    """Trains a compiled model for the configured length.

    Args:
        config: the whole configuration.
        model: the whole model, compiled with the optimizer; checkpoints hold its variables and those of `train_model`.
        train_model: the model that `fit` trains: `model`, or a part of it with the same optimizer and weights; compiled
            with the loss and without metrics.
        eval_model: shares the weights of `model`; compiled with the validation metrics.
        data: training and validation data.
        state: state to start from.
        checkpoints: folder of the checkpoints.
        logs: log files.
        progress: progress display.
        distribution: the devices and processes.
    """

    config: Config
    model: keras.Model
    train_model: keras.Model
    eval_model: keras.Model
    data: Data
    state: State
    checkpoints: CheckpointFolder
    logs: Logs
    progress: Progress
    distribution: SingleDevice = dataclasses.field(default_factory=SingleDevice)

    def __post_init__(self):
        self.steps_per_epoch = self.data.training.steps_per_epoch
        self.total_steps = total_steps(self.config, self.steps_per_epoch)
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.folder = Path(self.config.output)
        self._samples = None
        self._started = time.monotonic() - self.state.seconds

    def run(self) -> bool:
        """Train from the current state on.

        Returns:
            True if training is complete; False if a signal stopped it, after a checkpoint was written.
        """
        with StopSignal() as stop:
            while self.state.epoch < self.epochs:
                self._train_epoch(stop)
                scores = None if self.distribution.any(stop.requested) else self._validate(stop)
                if scores is None:
                    self.write_checkpoint()
                    return False
                self._finish_epoch(scores)
        return True

    def write_checkpoint(self) -> None:
        """Write the state, the model and the optimizer.

        Raises:
            RecNetError: if the weights are not finite; earlier checkpoints are kept.
        """
        self._check_weights()
        self.state.seconds = time.monotonic() - self._started
        if self.distribution.is_main:
            more = training_variables(self.model, self.train_model)
            self.checkpoints.write(self.model, dataclasses.asdict(self.state), more)

    def _train_epoch(self, stop: StopSignal):
        state = self.state
        steps = min(self.steps_per_epoch, self.total_steps - state.epoch * self.steps_per_epoch)
        self.progress.start_epoch(state.epoch + 1, self.epochs, state.epoch_step, steps)
        try:
            if state.epoch_step < steps:
                batches = self.data.training.epoch(state.epoch, state.epoch_step)
                with self.distribution.scope():
                    self.train_model.fit(
                        _for_keras(batches.take(steps - state.epoch_step)),
                        initial_epoch=state.epoch,
                        epochs=state.epoch + 1,
                        verbose=0,
                        shuffle=False,
                        callbacks=[_StepCallback(self, stop)],
                    )
        finally:
            self.progress.end_epoch()

    def _validate(self, stop: StopSignal) -> dict[str, float] | None:
        """Return the validation scores of the EMA weights, or None if a stop was requested."""
        self._check_weights()
        with self.distribution.eval_weights(self.model) as model:
            if self.data.validation is None:
                self._draw_samples(model)
                return {}
            results = self._evaluate(stop)
            if results is None:
                return None
            best = self.state.best()
            better = math.isfinite(results["mae"]) and (best is None or results["mae"] < best["val_mae"])
            if better and self.distribution.is_main:
                self.checkpoints.write_best(model, {"epoch": self.state.epoch + 1, "val_mae": results["mae"]})
            self._draw_samples(model)
        return {f"val_{name}": value for name, value in results.items()}

    def _evaluate(self, stop):
        """Return the scores of all validation data, or None if a stop was requested."""
        data = self.data.validation
        results = self.eval_model.evaluate(_for_keras(data.evaluation()), verbose=0, return_dict=True, callbacks=[stop])
        if self.distribution.any(stop.requested):
            return None
        if data.shard is not None:
            # the metrics are quotients of sums over this process's images
            self.distribution.add([variable for metric in self.eval_model.metrics for variable in metric.variables])
            results = dict(sorted(self.eval_model.get_metrics_result().items()))
        return {name: float(value) for name, value in results.items()}

    def _check_weights(self):
        """Raise an error if training diverged: the last step can ruin the weights even though its loss is finite."""
        if not all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in self.model.weights):
            raise self.diverged("The weights are")

    def diverged(self, subject: str) -> RecNetError:
        """Return the error for a loss or weights that are not finite."""
        return RecNetError(
            f"{subject} not finite at step {self.state.step}. Lower optimizer.learning_rate or set optimizer.clip, and "
            f"start a new run with --set output=FOLDER. The checkpoints in {self.checkpoints.folder} are from earlier "
            f"steps."
        )

    def _draw_samples(self, model):
        if not self.config.samples or not self.distribution.is_main:
            return
        if self._samples is None:
            self._samples = model.to_inference(), self.data.samples(self.config.samples)
        inference, (inputs, images, masks) = self._samples
        maps = inference.predict_on_batch(inputs).reshape(-1, *masks.shape[1:])[: len(masks)]
        sample_sheet.draw(images, masks, maps, self.folder / "samples" / f"epoch-{self.state.epoch + 1:03d}.png")

    def _finish_epoch(self, scores: dict[str, float]):
        state = self.state
        state.seconds = time.monotonic() - self._started
        rates = optimizers.learning_rates(self.model.optimizer)
        row = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "loss": state.loss_sum / state.epoch_step,
            **scores,
            **{f"learning_rate_{name}": float(rate) for name, rate in rates.items()},
            "seconds": state.seconds,
            "peak_memory_mb": peak_memory_mb(),
        }
        state.history.append(row)
        state.epoch, state.epoch_step, state.loss_sum = state.epoch + 1, 0, 0.0
        self.logs.epoch(state.history)
        self.write_checkpoint()
        validation = ""
        if scores:
            best = " (best)" if state.best() is row else ""
            validation = (
                f" validation loss {row['val_loss']:.4f}, MAE {row['val_mae']:.4f}, F {row['val_f']:.4f}{best},"
            )
        self.progress.log(
            f"Epoch {row['epoch']}/{self.epochs}: loss {row['loss']:.4f},{validation} "
            f"{format_duration(state.seconds)} elapsed"
        )


class _KerasBatches(keras.utils.PyDataset):
    """Batches of a pipeline without TensorFlow, as `fit` and `evaluate` expect them."""

    def __init__(self, batches):
        super().__init__(workers=batches.workers, max_queue_size=2 * batches.workers)
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def _for_keras(batches):
    return _KerasBatches(batches) if isinstance(batches, ThreadedBatches) else batches


class _StepCallback(keras.callbacks.Callback):
    """Updates the state after each step of one `fit`, logs it, and writes checkpoints."""

    def __init__(self, loop: Loop, stop: StopSignal):
        super().__init__()
        self.loop = loop
        self.stop = stop
        self.last_checkpoint = time.monotonic()
        self.start_sum = loop.state.loss_sum
        self.start_step = loop.state.epoch_step

    def on_train_batch_end(self, batch, logs=None):
        loop, state = self.loop, self.loop.state
        state.step += 1
        state.epoch_step += 1
        # Keras reports the mean over the steps of this `fit`
        total = self.start_sum + logs["loss"] * (state.epoch_step - self.start_step)
        if not math.isfinite(total):
            raise loop.diverged("The loss is")
        loss, state.loss_sum = total - state.loss_sum, total
        loop.progress.step(state.loss_sum / state.epoch_step)
        loop.logs.step(state.step, {"loss": loss})
        due = time.monotonic() - self.last_checkpoint >= 60 * loop.config.checkpoint.minutes
        interval = loop.config.checkpoint.steps
        if due or (interval and state.step % interval == 0):
            self._sync()
            loop.write_checkpoint()
            self.last_checkpoint = time.monotonic()
        if self._stop_requested():
            self._sync()
            self.model.stop_training = True

    def _stop_requested(self):
        """Return whether to stop; all processes stop at the same step."""
        distribution = self.loop.distribution
        if distribution.processes.count > 1 and self.loop.state.step % STOP_INTERVAL:
            return False
        return distribution.any(self.stop.requested)

    def _sync(self):
        # on JAX, `fit` updates the model's variables only on request
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()


def total_steps(config: Config, steps_per_epoch: int) -> int:
    """Return the number of optimizer steps of the whole training run."""
    return config.steps if config.steps is not None else config.epochs * steps_per_epoch


def peak_memory_mb() -> float:
    """Return the peak memory of this process in MB; NaN on systems that do not report it, such as Windows."""
    try:
        import resource
    except ModuleNotFoundError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
