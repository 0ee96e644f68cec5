"""Training and validation data of a run, and the code that both training tasks use to find them."""

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_recnet import pipelines
from keras_recnet.errors import ConfigError, DataError, MissingExtraError, PresetError
from keras_recnet.training.config.schema import DataConfig, GroupDataConfig, GroupRootConfig, RootConfig

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

    def close(self) -> None:
        """Free the memory of cached images."""
        for data in (self.training, self.validation):
            if data is not None:
                data.source.close()


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


@dataclasses.dataclass(frozen=True)
class Place:
    """One place of images and masks: an entry of `data.roots`, or the keys `root`, `images`, `masks` and `list`.

    Attributes:
        images: folder of images, or None.
        masks: folder of masks, or None.
        unlabeled: folder of images without masks, or None.
        root: `root`, or None.
        keys: the entry.
        prefix: precedes the names of images and groups, so that names of different places differ. Empty if there is
            only one place.
    """

    images: Path | None
    masks: Path | None
    unlabeled: Path | None
    root: Path | None
    keys: RootConfig | GroupRootConfig
    prefix: str = ""

    def renamed(self, pairs: Iterable[pipelines.Pair]) -> list[pipelines.Pair]:
        """Return the pairs with the prefix before their names."""
        return [dataclasses.replace(pair, name=self.prefix + pair.name) for pair in pairs]


def places(data: DataConfig | GroupDataConfig, draw: Callable[[], tuple[Path, Path]]) -> list[Place]:
    """Return the places of images and masks of a `data` section.

    Args:
        data: the section.
        draw: writes the images that `synthetic` requests and returns their two folders.

    Raises:
        ConfigError: if keys conflict, or only `images` or `masks` is given.
        DataError: if a `root` is not a folder.
    """
    kind = GroupRootConfig if isinstance(data, GroupDataConfig) else RootConfig
    single = kind(**{key: getattr(data, key) for key in kind.model_fields if hasattr(data, key)})
    given = list(single.model_dump(exclude_none=True, exclude={"several_objects"}))
    if data.synthetic is not None:
        given = [*(key for key in given if key != "exclude"), *(["roots"] if data.roots else [])]
        if given:
            raise ConfigError(f"data.synthetic: draws its own images and cannot be combined with data.{given[0]}.")
        return [Place(*draw(), None, None, single)]
    if not data.roots:
        return [_place(single, "data", "")]
    if given:
        raise ConfigError(f"data.roots: cannot be combined with data.{given[0]}. Add it to data.roots as an entry.")
    if isinstance(data.validation, str):
        raise ConfigError(
            "data.validation: must be a share of the images with data.roots. To hold out certain images, mark them in "
            f"the lists of the roots. Received: {data.validation!r}"
        )
    names = [Path(entry.root or entry.images or _unlabeled(entry) or "").resolve().name for entry in data.roots]
    prefixes = [f"{name}-{n}/" if names.count(name) > 1 else f"{name}/" for n, name in enumerate(names, start=1)]
    if len(names) == 1:
        prefixes = [""]
    return [
        _place(entry, f"data.roots[{index}]", prefix)
        for index, (entry, prefix) in enumerate(zip(data.roots, prefixes, strict=True))
    ]


def _place(entry, key, prefix):
    root = None if entry.root is None else Path(entry.root)
    if root is not None and not os.path.isdir(root):
        raise DataError(
            f"{key}.root: {root}: no such folder. {key}.root must be a folder with the subfolders images and masks."
        )
    images, masks = (
        Path(folder) if folder is not None else root / name if root is not None else None
        for name, folder in (("images", entry.images), ("masks", entry.masks))
    )
    if (images is None) != (masks is None):
        raise ConfigError(f"{key}: set both {key}.images and {key}.masks, or {key}.root.")
    return Place(images, masks, _unlabeled(entry), root, entry, prefix)


def _unlabeled(entry):
    folder = getattr(entry, "unlabeled", None)  # groups have no such key
    return None if folder is None else Path(folder)


def names_of(pairs: Iterable[pipelines.Pair]) -> list[str]:
    """Return the names of the pairs."""
    return [pair.name for pair in pairs]


def fingerprint(*lists: Iterable[str]) -> str:
    """Return a short hash of lists of names."""
    names = "\n\n".join("\n".join(names) for names in lists)
    return hashlib.sha256(names.encode("utf-8")).hexdigest()[:16]
