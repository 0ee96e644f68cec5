"""Training and validation data of a run, and the code with which both training tasks find them."""

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_recnet import pipelines
from keras_recnet.errors import ConfigError, DataError, MissingExtraError, PresetError
from keras_recnet.training.config.schema import DataConfig, GroupDataConfig

HELD_OUT = 0.1  # default share of the images for validation


@dataclasses.dataclass(frozen=True)
class Data:
    """Training and validation data of a run.

    Attributes:
        training: training batches, a pure function of (seed, epoch, step).
        validation: validation data, which `evaluation()` yields in order, without augmentation. None if
            there is no validation.
        fingerprint: short hash of the names of the training and validation images.
        samples: called with a count; always returns the same images, at most `count` of them, as a tuple of model
            input, images `(count, height, width, 3)` and masks `(count, height, width, 1)`.
        counts: numbers of training and validation images, as text.
    """

    training: "pipelines.SaliencyPairs | pipelines.SaliencyGroups"
    validation: "pipelines.SaliencyPairs | pipelines.SaliencyGroups | None"
    fingerprint: str
    samples: Callable[[int], tuple]
    counts: str


class Faults:
    """Collects the errors of several checks, to report them together.

    Attributes:
        errors: the errors so far.
    """

    def __init__(self):
        self.errors = []

    @contextlib.contextmanager
    def collect(self):
        """Collect an error that the block raises about the configuration, the data, the preset or a package."""
        try:
            yield
        except (ConfigError, DataError, PresetError, MissingExtraError) as error:
            self.errors.append(error)

    def raise_all(self) -> None:
        """Raise the collected errors as one, if there are any."""
        of_files = [error for error in self.errors if isinstance(error, pipelines.PipelineDataError)]
        errors = [error for error in self.errors if error not in of_files]
        if of_files:
            errors.append(pipelines.PipelineDataError.merge(of_files))
        if len(errors) == 1:
            raise errors[0]
        if errors:
            kind = DataError if all(isinstance(error, DataError) for error in errors) else ConfigError
            raise kind("\n".join(map(str, errors)))


class ProgressLog:
    """Logs progress at most every ten seconds: `Reading images: 2,000 of 10,553`."""

    def __init__(self, log: Callable[[str], object], label: str):
        self.log, self.label = log, label
        self.last = time.monotonic()

    def __call__(self, done: int, total: int):
        now = time.monotonic()
        if now - self.last >= 10:
            self.last = now
            self.log(f"{self.label}: {done:,} of {total:,}")


def folders(
    data: DataConfig | GroupDataConfig, draw: Callable[[], tuple[Path, Path]]
) -> tuple[Path | None, Path | None, Path | None]:
    """Return the folders of a `data` section.

    Args:
        data: the section.
        draw: writes the images that `synthetic` requests and returns their two folders.

    Returns:
        Folder of images, folder of masks and `root`; None for those that are not given.

    Raises:
        ConfigError: if keys conflict, or only `images` or `masks` is given.
        DataError: if `root` is not a folder.
    """
    if data.synthetic is not None:
        given = [name for name in ("root", "images", "masks", "list") if getattr(data, name) is not None]
        if given:
            raise ConfigError(f"data.synthetic: draws its own images and cannot be combined with data.{given[0]}.")
        return *draw(), None
    root = None if data.root is None else Path(data.root)
    if root is not None and not os.path.isdir(root):
        raise DataError(
            f"data.root: {root}: no such folder. data.root must be a folder with the subfolders images and masks."
        )
    images, masks = (
        Path(folder) if folder is not None else root / name if root is not None else None
        for name, folder in (("images", data.images), ("masks", data.masks))
    )
    if (images is None) != (masks is None):
        raise ConfigError("data: set both data.images and data.masks, or data.root.")
    return images, masks, root


def names_of(pairs: Iterable[pipelines.Pair]) -> list[str]:
    """Return the names of the pairs."""
    return [pair.name for pair in pairs]


def fingerprint(*lists: Iterable[str]) -> str:
    """Return a short hash of lists of names."""
    names = "\n\n".join("\n".join(names) for names in lists)
    return hashlib.sha256(names.encode("utf-8")).hexdigest()[:16]
