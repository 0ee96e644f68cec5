"""Groups of pictures to files: what `keras-recnet cosal` does between its options and its messages."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator

from keras_recnet.imaging import KINDS_OF_THE_MAP
from keras_recnet.imaging.contact_sheet import Sheet
from keras_recnet.imaging.reading import Picture
from keras_recnet.imaging.writing import png, write
from keras_recnet.inference.group_inputs import GroupTask
from keras_recnet.inference.inputs import Task
from keras_recnet.inference.outputs import Result, Writer, attempt, why
from keras_recnet.parallel import cores, ordered

ALONE = "a group of one picture: its map is what is salient in it alone"


@dataclasses.dataclass(frozen=True)
class GroupResult(Result):
    """What became of a picture of a group, or, with `outputs` of `"sheet"` alone, of the sheet of the whole.

    Attributes:
        group: the group's name.
        variance: over the orders, mean of the picture's pixels; None for a single order.
        note: what to know about the group, or None.
    """

    group: str = ""
    variance: float | None = None
    note: str | None = None

    @property
    def is_picture(self) -> bool:
        """False for a sheet."""
        return "sheet" not in self.outputs


@dataclasses.dataclass(frozen=True)
class GroupBatch(Writer):
    """Predicts groups of pictures and writes what was asked for.

    Args:
        predictor: a `GroupPredictor`; for this and the others see `keras_recnet.inference.outputs.Writer`.
        orders: as `GroupPredictor.map`'s.
        seed: as `GroupPredictor.map`'s.
    """

    orders: int = 1
    seed: int = 0

    def run(
        self,
        groups: Iterable[GroupTask],
        *,
        jobs: int | None = None,
        progress: Callable[[float], None] = lambda pictures: None,
    ) -> Iterator[GroupResult]:
        """Does one group after another with `jobs` threads; results come in order, a sheet's after its pictures'.

        A picture that cannot be read is left out of its group and is a result with an error; the others are done.

        Args:
            groups: what to do.
            jobs: threads; None: one more than the process has cores.
            progress: is told how much was done, in pictures: half of each when it is in the group's state, half when
                its result comes.

        Raises:
            DiskError: if the disk is full or the output folder cannot be written; nothing more is done then.
        """
        jobs = jobs or cores() + 1
        for group in groups:
            sheet = {} if group.sheet is None else self.missing({"sheet": group.sheet})
            if not sheet and not any(self.missing(task.outputs) for task in group.tasks):
                for result in self._skipped(group):
                    progress(1.0 if result.is_picture else 0.0)
                    yield result
                continue
            yield from self._run(group, sheet, jobs, progress)

    def _skipped(self, group):
        for task in group.tasks:
            yield GroupResult(task.source, task.outputs, skipped=True, group=group.name)
        if group.sheet is not None:
            yield GroupResult(group.source, {"sheet": group.sheet}, skipped=True, group=group.name)

    def _run(self, group, sheet_output, jobs, progress):
        start = time.perf_counter()
        with self.predictor.group(
            [task.source for task in group.tasks],
            orders=self.orders,
            seed=self.seed,
            jobs=jobs,
            progress=lambda: progress(0.5),
        ) as state:
            sheet = Sheet(list(state.sizes.values())) if sheet_output and state.sizes else None
            note = f"{group.name}: {ALONE}." if len(state.places) == 1 else None

            def do(index):
                return self._do(group.tasks[index], state, index, sheet, group.name, note)

            for result in ordered(do, range(len(group.tasks)), workers=jobs):
                progress(0.5)
                yield result
        if sheet is not None:

            def save():
                write(png(sheet.pixels), group.sheet)
                return sheet.pixels.shape[:2]

            result = attempt(Task(group.source, sheet_output), save)
            yield GroupResult(**{**vars(result), "seconds": time.perf_counter() - start}, group=group.name)
        elif group.sheet is not None and not sheet_output:
            yield GroupResult(group.source, {"sheet": group.sheet}, skipped=True, group=group.name)

    def _do(self, task, state, index, sheet, name, note):
        if index in state.errors:
            return GroupResult(task.source, {}, error=why(task.source, state.errors[index]), group=name)
        missing, variances = self.missing(task.outputs), []
        if not missing and sheet is None:
            return GroupResult(task.source, task.outputs, skipped=True, group=name, note=note)

        def work():
            whole = not KINDS_OF_THE_MAP.issuperset(missing)
            picture = None
            if whole or sheet is not None:
                picture = self.predictor.read(task.source, whole=whole)
            saliency_map, variance = state.map(index, picture)
            if variance is not None:
                variances.append(float(variance.mean()))
            if sheet is not None:
                sheet.put(state.places[index], picture.rgb, saliency_map)
            self.save(missing, picture or Picture(None, saliency_map.shape), saliency_map)
            return state.sizes[index]

        result = attempt(task, work)
        return GroupResult(**vars(result), group=name, variance=variances[0] if variances else None, note=note)
