"""How far a training is: a bar in a terminal, a line now and then in a log file."""

import sys
import time


class Progress:
    """Shows step, loss, images or groups a second and the time that is left.

    Args:
        total_steps: steps of the whole training.
        batch_size: images or groups a step.
        start_step: the step that a resumed run goes on from.
        seconds: time between two lines when the output is not a terminal.
        stream: where to; standard error by default.
        of: what a batch is of.
    """

    def __init__(
        self,
        total_steps: int,
        batch_size: int,
        start_step: int = 0,
        seconds: float = 60.0,
        stream=None,
        of: str = "images",
    ):
        self.of = of
        self.total_steps = total_steps
        self.batch_size = batch_size
        self.seconds = seconds
        self.stream = stream or sys.stderr
        self._bar = None
        self._step = start_step
        self._rate = None
        self._last_tick = None
        self._last_line = time.monotonic()

    def start_epoch(self, epoch: int, epochs: int, step: int, steps: int) -> None:
        """Begins an epoch of `steps` steps of which `step` are done."""
        self._label = f"epoch {epoch}/{epochs}"
        self._last_tick = time.monotonic()
        self._epoch_step, self._epoch_steps = step, steps
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Bar(*columns, console=Console(file=self.stream), transient=True, refresh_per_second=4)
            self._task = self._bar.add_task(self._label, total=steps, completed=step, text="")
            self._bar.start()

    def step(self, loss: float) -> None:
        """One step more is done."""
        now = time.monotonic()
        took, self._last_tick = now - self._last_tick, now
        self._step += 1
        self._epoch_step += 1
        # the first step compiles the network and says nothing about the rate
        if self._rate is None:
            self._rate = 0.0
        elif self._rate == 0.0:
            self._rate = took
        else:
            self._rate += 0.05 * (took - self._rate)
        if self._bar:
            self._bar.update(self._task, completed=self._epoch_step, text=self._text(loss))
        elif now - self._last_line >= self.seconds:
            self._last_line = now
            self.say(f"{self._label} step {self._epoch_step}/{self._epoch_steps}: {self._text(loss)}")

    def end_epoch(self) -> None:
        """Takes the bar away, so that lines can be printed."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        """Prints a line."""
        print(text, file=self.stream, flush=True)

    def _text(self, loss: float) -> str:
        if not self._rate:
            return f"loss {loss:.4f}"
        left = self._rate * (self.total_steps - self._step)
        return f"loss {loss:.4f}, {self.batch_size / self._rate:.1f} {self.of}/s, {clock(left)} left"


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
