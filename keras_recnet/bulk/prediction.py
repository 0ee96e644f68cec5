"""Saliency and co-saliency maps of a Ray dataset."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from keras_recnet.bulk import storage
from keras_recnet.bulk.cluster import actor_options
from keras_recnet.errors import ImageError, MissingExtraError
from keras_recnet.imaging.drawing import to_8_bits
from keras_recnet.imaging.objects import object_box
from keras_recnet.imaging.reading import raise_pillow_limit
from keras_recnet.imaging.writing import encode
from keras_recnet.inference.outputs import is_out_of_memory
from keras_recnet.inference.predictor import read_snapshot
from keras_recnet.parallel import ordered_map

if TYPE_CHECKING:
    import ray.data

READERS = 4  # threads per actor that read files ahead; they mostly wait for the network of a remote file system
BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Row:
    """The result for one image.

    Attributes:
        path: the image's path or URI.
        map: float32 `(H, W)` in 0…1; None if the image failed.
        box: `(left, top, right, bottom)` of the object, see `keras_recnet.imaging.objects.object_box`; None if there is
            no object.
        mean: mean of the map.
        error: why the image failed, or None.
    """

    path: str
    map: np.ndarray | None = None
    box: tuple[int, int, int, int] | None = None
    mean: float | None = None
    error: str | None = None

    @classmethod
    def of_map(cls, path: str, saliency_map: np.ndarray) -> "Row":
        return cls(path, saliency_map, object_box(saliency_map), float(saliency_map.mean()))

    def png(self) -> bytes | None:
        """Return the map as a PNG file, or None."""
        return None if self.map is None else encode(to_8_bits(self.map))


def predict(
    dataset: "ray.data.Dataset",
    *,
    grouped: bool = False,
    maps: str = "png",
    actors: int | None = None,
    gpus_per_actor: float | None = None,
    **options,
) -> "ray.data.Dataset":
    """Predict the maps of the images in a Ray dataset.

    Each actor holds one predictor that runs on one thread. An image that cannot be read does not fail the job: its row
    has an `error`. If an actor is killed, Ray starts it again and repeats its batch, any number of times (`keras-recnet
    bulk` has a limit).

    Args:
        dataset: a row per image with a column `path`: a local path, or a URI that pyarrow can read (`s3://…`, `gs://…`).
            If there is a column `bytes`, as after `ray.data.read_binary_files(…, include_paths=True)`, it is used
            instead of reading the file. With `grouped`, a row per group with a column `paths`, a list.
        grouped: whether each row is a group, whose co-saliency maps are predicted.
        maps: `"png"` for maps as 8-bit PNG files (bytes), `"array"` for float32 `(H, W)` arrays in 0…1.
        actors: number of actors. None: all CPUs of the Ray cluster except one per machine, or one actor per GPU.
        gpus_per_actor: GPUs reserved for an actor. None: 1 with `engine="keras"` in a cluster with GPUs, otherwise 0.
        **options: arguments of `keras_recnet.Predictor` (with `grouped`, of `GroupPredictor`), such as `preset` and
            `engine`. A preset folder must exist on every machine.

    Returns:
        The rows of `dataset` without `bytes`, in any order, with the columns `map`, `box` (left, top, right, bottom of
        the object, in pixels; None without an object), `mean` (of the map) and `error` (None if the map was predicted).
        With `grouped`, the columns `maps`, `boxes`, `means` and `errors` are lists in the order of `paths`. If an image
        failed, its map is None, or an empty array with `maps="array"`.

    Raises:
        MissingExtraError: if Ray is not installed.

    Example:
        >>> images = ray.data.read_binary_files("s3://photos/2024", include_paths=True)
        >>> maps = keras_recnet.bulk.predict(images)
        >>> maps.filter(lambda row: row["error"] is None).write_parquet("s3://maps/2024")
    """
    if maps not in ("png", "array"):
        raise ValueError(f"`maps` must be 'png' or 'array'. Received: maps={maps!r}")
    return dataset.map_batches(
        _GroupBatches if grouped else _ImageBatches,
        fn_constructor_args=(maps, options),
        batch_size=1 if grouped else BATCH_SIZE,
        **actor_options(actors, gpus_per_actor, options.get("engine")),
    )


class ImageWorker:
    """Predicts images one after another. An actor holds one.

    Args:
        options: arguments of `Predictor`.
    """

    def __init__(self, options: dict):
        from keras_recnet.inference.predictor import Predictor

        self.predictor = Predictor(**{"threads": 1, **_without_none(options)})
        raise_pillow_limit(self.predictor.max_pixels)

    def rows(self, paths: Iterable[str], files: Iterable[bytes] | None = None) -> Iterator[Row]:
        """Predict images, given their paths and optionally the contents of their files."""
        paths = list(paths)
        sources = ordered_map(_source, paths, workers=READERS) if files is None else files
        for path, source in zip(paths, sources, strict=True):
            try:
                decoded = read_snapshot(
                    source, fit=self.predictor.engine.size, max_pixels=self.predictor.max_pixels, name=path
                )
                yield Row.of_map(path, self.predictor.predict(decoded))
            except (ImageError, MissingExtraError, MemoryError, cv2.error) as error:
                if isinstance(error, cv2.error) and not is_out_of_memory(error):
                    raise
                yield Row(path, error=_message(path, error))


class GroupWorker:
    """Predicts groups one after another. An actor holds one.

    Args:
        options: arguments of `GroupPredictor`.
    """

    def __init__(self, options: dict):
        from keras_recnet.inference.group_predictor import GroupPredictor

        self.predictor = GroupPredictor(**_without_none(options))
        raise_pillow_limit(self.predictor.max_pixels)

    def rows(self, paths: Iterable[str]) -> Iterator[Row]:
        """Predict the images of one group, given their paths."""
        paths = list(paths)
        sources = list(ordered_map(_source, paths, workers=READERS))
        for path, result in zip(paths, self.predictor.map(sources, jobs=1, errors="return"), strict=True):
            if isinstance(result, Exception):
                yield Row(path, error=_message(path, result))
            else:
                yield Row.of_map(path, result.saliency)


class _ImageBatches:
    """Actor of `predict` for single images."""

    def __init__(self, maps, options):
        self.maps, self.worker = maps, ImageWorker(options)

    def __call__(self, batch):
        files = batch.pop("bytes", None)
        rows = list(self.worker.rows(batch["path"].tolist(), files))
        return {**batch, **{name: _column(values) for name, values in _columns(rows, self.maps).items()}}


class _GroupBatches:
    """Actor of `predict` for groups."""

    def __init__(self, maps, options):
        self.maps, self.worker = maps, GroupWorker(options)

    def __call__(self, batch):
        columns = {name: [] for name in ("maps", "boxes", "means", "errors")}
        for paths in batch["paths"]:
            rows = list(self.worker.rows(list(paths)))
            for name, values in zip(columns, _columns(rows, self.maps).values(), strict=True):
                columns[name].append(values)
        return {**batch, **{name: _column(values) for name, values in columns.items()}}


def _columns(rows, maps):
    images = [row.png() for row in rows]
    if maps == "array":
        images = [np.zeros((0, 0), np.float32) if row.map is None else row.map for row in rows]
    boxes = [None if row.box is None else list(row.box) for row in rows]
    return {"map": images, "box": boxes, "mean": [row.mean for row in rows], "error": [row.error for row in rows]}


def _column(values):
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _source(path):
    """Return what to read an image from: a local path, the contents of a remote file, or the `ImageError`."""
    if storage.is_local(path):
        return path
    try:
        return storage.read(path)
    except OSError as error:
        return ImageError(f"{path}: cannot be read ({error}).")


def _message(path, error):
    if isinstance(error, MemoryError):
        return f"{path}: not enough memory for this image."
    message = str(error)
    # the error of an image that was given as bytes does not name its file
    return message if os.path.basename(path) in message else f"{path}: {message}"


def _without_none(options):
    return {name: value for name, value in options.items() if value is not None}
