"""The epochs of a training: fit, validate, write down, go on or stop."""

import dataclasses
import math
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import keras

from keras_recnet import optimizers
from keras_recnet.errors import RecNetError
from keras_recnet.training import sample_sheet
from keras_recnet.training.checkpoints import CheckpointFolder
from keras_recnet.training.config.loading import Config
from keras_recnet.training.data import Data
from keras_recnet.training.ema import averaged_weights
from keras_recnet.training.logs import Logs
from keras_recnet.training.progress import Progress, clock


@dataclasses.dataclass
class State:
    """Where a run is; written into every checkpoint.

    Attributes:
        step: optimizer steps done.
        epoch: number of the epoch, from 0.
        epoch_step: steps done in it.
        loss_sum: sum of the training loss over these steps.
        seconds: time spent so far, over all resumptions.
        history: one row for each finished epoch.
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
    def of(cls, values: dict) -> "State":
        """The state that a checkpoint holds; entries that only another version of the library knows are left out."""
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values})

    def best(self) -> dict | None:
        """The row of the epoch with the least error on the validation images."""
        return min(self.history, key=lambda row: row["val_mae"], default=None)


class Stop:
    """Turns Ctrl-C and SIGTERM into a flag that the loop looks at between two steps; a second one ends at once."""

    def __init__(self):
        self.requested = False
        self._previous = {}

    def __enter__(self):
        # Python lets only the main thread handle signals; elsewhere the caller has to
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class Loop:
    """Trains a compiled model to the end of its configuration.

    Args:
        config: the whole configuration.
        model: the whole model, compiled with the optimizer; checkpoints hold it.
        fitted: what `fit` trains: the model itself, or a part of it with the same optimizer and weights; compiled with
            the loss, its only metric.
        judge: shares the model's weights, compiled with the metrics for validation.
        data: what to train and validate on.
        state: where to begin.
        checkpoints: where to write.
        logs: where to note.
        progress: where to show.
    """

    def __init__(
        self,
        config: Config,
        model: keras.Model,
        fitted: keras.Model,
        judge: keras.Model,
        data: Data,
        state: State,
        checkpoints: CheckpointFolder,
        logs: Logs,
        progress: Progress,
    ):
        self.config = config
        self.model = model
        self.fitted = fitted
        self.judge = judge
        self.data = data
        self.state = state
        self.checkpoints = checkpoints
        self.logs = logs
        self.progress = progress
        self.steps_per_epoch = data.training.steps_per_epoch
        self.total_steps = total_steps(config, self.steps_per_epoch)
        self.epochs = math.ceil(self.total_steps / self.steps_per_epoch)
        self.folder = Path(config.output)
        self._samples = None
        self._started = time.monotonic() - state.seconds

    def run(self) -> bool:
        """Goes on from the state.

        Returns:
            True when the training is complete, False when a signal stopped it; the checkpoint is written then.
        """
        with Stop() as stop:
            while self.state.epoch < self.epochs:
                self._train_epoch(stop)
                if stop.requested:
                    self.checkpoint()
                    return False
                row = self._validate(stop)
                if row is None:
                    self.checkpoint()
                    return False
                self._finish_epoch(row)
        return True

    def checkpoint(self) -> None:
        """Writes the state, the model and the optimizer."""
        self.state.seconds = time.monotonic() - self._started
        self.checkpoints.write(self.model, dataclasses.asdict(self.state))

    def _steps_of(self, epoch: int) -> int:
        return min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch)

    def _train_epoch(self, stop: Stop):
        state, steps = self.state, self._steps_of(self.state.epoch)
        self.progress.start_epoch(state.epoch + 1, self.epochs, state.epoch_step, steps)
        try:
            if state.epoch_step < steps:
                batches = self.data.training.epoch(state.epoch, state.epoch_step)
                self.fitted.fit(
                    batches.take(steps - state.epoch_step),
                    initial_epoch=state.epoch,
                    epochs=state.epoch + 1,
                    verbose=0,
                    shuffle=False,
                    callbacks=[_Watch(self, stop)],
                )
        finally:
            self.progress.end_epoch()

    def _validate(self, stop: Stop) -> dict[str, float] | None:
        """The errors of the averaged weights on the validation images, or None when a signal came."""
        with averaged_weights(self.model):
            results = self.judge.evaluate(
                self.data.validation.evaluation(), verbose=0, return_dict=True, callbacks=[_StopEvaluation(stop)]
            )
            if stop.requested:
                return None
            best = self.state.best()
            if best is None or results["mae"] < best["val_mae"]:
                self.checkpoints.write_best(self.model, {"epoch": self.state.epoch + 1, "val_mae": results["mae"]})
            self._draw_samples()
        return {f"val_{name}": float(value) for name, value in results.items()}

    def _draw_samples(self):
        if not self.config.samples:
            return
        if self._samples is None:
            self._samples = self.model.to_inference(), self.data.samples(self.config.samples)
        inference, (inputs, images, masks) = self._samples
        maps = inference.predict_on_batch(inputs).reshape(-1, *masks.shape[1:])[: len(masks)]
        sample_sheet.draw(images, masks, maps, self.folder / "samples" / f"epoch-{self.state.epoch + 1:03d}.png")

    def _finish_epoch(self, validation: dict[str, float]):
        state = self.state
        state.seconds = time.monotonic() - self._started
        rates = optimizers.learning_rates(self.model.optimizer)
        row = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "loss": state.loss_sum / state.epoch_step,
            **validation,
            **{f"learning_rate_{name}": float(rate) for name, rate in rates.items()},
            "seconds": state.seconds,
            "peak_memory_mb": peak_memory_mb(),
        }
        state.history.append(row)
        state.epoch, state.epoch_step, state.loss_sum = state.epoch + 1, 0, 0.0
        self.logs.epoch(state.history)
        self.checkpoint()
        mark = " (best)" if state.best() is row else ""
        self.progress.say(
            f"epoch {row['epoch']}/{self.epochs}: loss {row['loss']:.4f}, validation loss {row['val_loss']:.4f}, "
            f"MAE {row['val_mae']:.4f}, F {row['val_f']:.4f}{mark}, {clock(state.seconds)} so far"
        )


class _Watch(keras.callbacks.Callback):
    """Counts the steps of one `fit`, shows and notes them, writes checkpoints when due, stops when asked to."""

    def __init__(self, loop: Loop, stop: Stop):
        super().__init__()
        self.loop = loop
        self.stop = stop
        self.written = time.monotonic()
        self.sum_before = loop.state.loss_sum
        self.steps_before = loop.state.epoch_step

    def on_train_batch_end(self, batch, logs=None):
        loop, state = self.loop, self.loop.state
        state.step += 1
        state.epoch_step += 1
        # Keras gives the mean over the steps of this `fit`
        total = self.sum_before + logs["loss"] * (state.epoch_step - self.steps_before)
        if not math.isfinite(total):
            raise RecNetError(
                f"The loss is no longer a finite number at step {state.step}. Lower optimizer.learning_rate, or give "
                f"optimizer.clip, and start again; the checkpoints in {loop.checkpoints.folder} are from before."
            )
        loss, state.loss_sum = total - state.loss_sum, total
        loop.progress.step(state.loss_sum / state.epoch_step)
        loop.logs.step(state.step, {"loss": loss})
        due = time.monotonic() - self.written >= 60 * loop.config.checkpoint.minutes
        every = loop.config.checkpoint.steps
        if due or (every and state.step % every == 0):
            self._sync()
            loop.checkpoint()
            self.written = time.monotonic()
        if self.stop.requested:
            self._sync()
            self.model.stop_training = True

    def _sync(self):
        # on JAX the weights of a running `fit` are not in the variables until asked for
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()


class _StopEvaluation(keras.callbacks.Callback):
    def __init__(self, stop: Stop):
        super().__init__()
        self.stop = stop

    def on_test_batch_end(self, batch, logs=None):
        if self.stop.requested:
            self.model.stop_evaluating = True


def total_steps(config: Config, steps_per_epoch: int) -> int:
    """Optimizer steps of a whole training."""
    return config.steps if config.steps is not None else config.epochs * steps_per_epoch


def peak_memory_mb() -> float:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
