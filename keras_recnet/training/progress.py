"""Training progress: a bar in a terminal, occasional lines in a log file."""

import sys
import time


class Progress:
    """Displays step, loss, images or groups per second, and the remaining time.

    Args:
        total_steps: steps of the whole training run.
        batch_size: images or groups per step.
        start_step: step that the run starts or resumes from.
        interval: seconds between two lines if the output is not a terminal.
        stream: output stream; standard error by default.
        unit: what a batch consists of, in the plural.
    """

    def __init__(
        self,
        total_steps: int,
        batch_size: int,
        start_step: int = 0,
        interval: float = 60.0,
        stream=None,
        unit: str = "images",
    ):
        self.total_steps = total_steps
        self.batch_size = batch_size
        self.interval = interval
        self.stream = stream or sys.stderr
        self.unit = unit
        self._bar = None
        self._step = start_step
        self._step_seconds = None
        self._last_step = None
        self._last_line = time.monotonic()

    def start_epoch(self, epoch: int, epochs: int, step: int, steps: int) -> None:
        """Start the display of an epoch of `steps` steps, of which `step` are done."""
        self._label = f"Epoch {epoch}/{epochs}"
        self._last_step = time.monotonic()
        self._epoch_step, self._epoch_steps = step, steps
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            text = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Bar(*text, console=Console(file=self.stream), transient=True, refresh_per_second=4)
            self._task = self._bar.add_task(self._label, total=steps, completed=step, text="")
            self._bar.start()

    def step(self, loss: float) -> None:
        """Count one step, and update the display."""
        now = time.monotonic()
        seconds, self._last_step = now - self._last_step, now
        self._step += 1
        self._epoch_step += 1
        # the first step compiles the network, so its duration is not counted
        if self._step_seconds is None:
            self._step_seconds = 0.0
        elif self._step_seconds == 0.0:
            self._step_seconds = seconds
        else:
            self._step_seconds += 0.05 * (seconds - self._step_seconds)
        if self._bar:
            self._bar.update(self._task, completed=self._epoch_step, text=self._text(loss))
        elif now - self._last_line >= self.interval:
            self._last_line = now
            self.log(f"{self._label}, step {self._epoch_step}/{self._epoch_steps}: {self._text(loss)}")

    def end_epoch(self) -> None:
        """Remove the bar."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def log(self, text: str) -> None:
        """Print a line."""
        print(text, file=self.stream, flush=True)

    def _text(self, loss: float) -> str:
        if not self._step_seconds:
            return f"loss {loss:.4f}"
        left = self._step_seconds * (self.total_steps - self._step)
        rate = self.batch_size / self._step_seconds
        return f"loss {loss:.4f}, {rate:.{1 if rate >= 1 else 2}f} {self.unit}/s, {format_duration(left)} left"


def format_duration(seconds: float) -> str:
    """Format seconds as `1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
