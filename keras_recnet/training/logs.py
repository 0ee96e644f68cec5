"""Logs of a run: CSV tables, TensorBoard events and learning curves."""

import csv
import os
import time
from pathlib import Path

from keras_recnet.files import atomic_path

CURVES = (("loss", "loss"), ("mean absolute error", "mae"), ("F-measure", "f"), ("learning rate", "learning_rate"))


class Logs:
    """Writes `log.csv` (a line per epoch), `steps.csv` (a line per `interval` steps), `curves.png` and events.

    `log.csv` is rewritten from the whole history after each epoch, so a resumed run has no duplicate lines.

    Args:
        folder: the run's folder.
        start_step: step that the run starts or resumes from; later lines of `steps.csv` are removed.
        tensorboard: whether to write events to `folder/tensorboard`; needs the package tensorboard.
        interval: steps between two lines of `steps.csv`.
    """

    def __init__(self, folder: str | os.PathLike, start_step: int = 0, tensorboard: bool = True, interval: int = 20):
        self.folder = Path(folder)
        self.interval = interval
        self.steps_path = self.folder / "steps.csv"
        self._drop_steps_after(start_step)
        self._events = _Events(self.folder / "tensorboard", start_step) if tensorboard else None

    def step(self, step: int, values: dict[str, float]) -> None:
        """Log a step, if it is a multiple of `interval`."""
        if step % self.interval:
            return
        new = not self.steps_path.exists()
        with open(self.steps_path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(_short(value) for value in values.values())])
        if self._events:
            self._events.write("step", step, values)

    def epoch(self, history: list[dict]) -> None:
        """Log an epoch, the last row of `history`."""
        with (
            atomic_path(self.folder / "log.csv") as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, fieldnames=list(history[0]))
            writer.writeheader()
            writer.writerows({key: _short(value) for key, value in row.items()} for row in history)
        if self._events:
            numbers = {key: value for key, value in history[-1].items() if isinstance(value, float)}
            self._events.write("epoch", history[-1]["step"], numbers)
        draw_curves(history, self.folder / "curves.png")

    def close(self) -> None:
        """Flush and close the event file."""
        if self._events:
            self._events.close()

    def _drop_steps_after(self, step: int):
        if not self.steps_path.exists():
            return
        header, *rows = self.steps_path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        # the last line may be incomplete after a kill
        kept = [
            row for row in rows if row.endswith("\n") and row.split(",")[0].isdigit() and int(row.split(",")[0]) <= step
        ]
        with atomic_path(self.steps_path) as temporary:
            temporary.write_text("".join([header, *kept]), encoding="utf-8")


class NoLogs:
    """Replaces `Logs` in the training processes that write nothing."""

    def step(self, step: int, values: dict[str, float]) -> None:
        pass

    def epoch(self, history: list[dict]) -> None:
        pass

    def close(self) -> None:
        pass


class _Events:
    """Writer of TensorBoard events; uses the package tensorboard only, so that it works with every Keras backend."""

    def __init__(self, folder: Path, start_step: int):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))
        if start_step:
            # makes TensorBoard discard earlier events from this step on
            log = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(session_log=log, step=start_step + 1, wall_time=time.time()))

    def write(self, group: str, step: int, values: dict[str, float]):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=f"{group}/{key}", simple_value=v) for key, v in values.items()])
        self._writer.add_event(Event(summary=summary, step=step, wall_time=time.time()))
        self._writer.flush()

    def close(self):
        self._writer.close()


def draw_curves(history: list[dict], path: str | os.PathLike) -> None:
    """Plot losses, scores and learning rates over the epochs, to a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    no_line = float("nan")
    epochs = [row["epoch"] for row in history]
    for axes, (title, word) in zip(figure.subplots(2, 2).flat, CURVES, strict=True):
        logarithmic = word == "learning_rate"
        for key in history[0]:
            if key == word or key.endswith(f"_{word}") or (logarithmic and key.startswith(word)):
                values = [row[key] for row in history]
                if logarithmic:  # a cosine schedule ends at 0
                    values = [value if value > 0 else no_line for value in values]
                axes.plot(epochs, values, marker="o", markersize=3, label=key)
                if logarithmic and max(values) > 0:
                    axes.set_yscale("log")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _short(value):
    return f"{value:.6g}" if isinstance(value, float) else value
