"""Predict groups of images and write their outputs, as `keras-recnet cosal` does."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from keras_recnet.imaging import KINDS_OF_THE_MAP
from keras_recnet.imaging.contact_sheet import Sheet
from keras_recnet.imaging.reading import DecodedImage
from keras_recnet.imaging.writing import encode, write
from keras_recnet.inference.group_inputs import GroupJob
from keras_recnet.inference.outputs import OutputWriter, Result
from keras_recnet.parallel import cores, ordered_map

SINGLE_IMAGE_NOTE = "a group of one image: its map shows what is salient in that image alone"


def write_group_maps(
    predictor,
    jobs: Iterable[GroupJob],
    writer: OutputWriter,
    *,
    orders: int = 1,
    seed: int = 0,
    workers: int | None = None,
    advance: Callable[[float], None] = lambda images: None,
) -> Iterator[Result]:
    """Predict groups of images, one group after another, and write their outputs.

    An image that cannot be read is left out of its group and yields a result with an error.

    Args:
        predictor: a `GroupPredictor`.
        jobs: the groups and the files to write.
        writer: draws and writes the outputs.
        orders: see `GroupPredictor.map`.
        seed: see `GroupPredictor.map`.
        workers: number of threads; None: available CPU cores plus one.
        advance: called for a progress bar with the number of images completed since the last call: 0.5 after an image
            is encoded, 0.5 after its outputs are written.

    Yields:
        A `Result` per image, in order, and after each group's images a `Result` for its sheet.

    Raises:
        DiskError: if the disk is full or the output folder is not writable; the remaining jobs are dropped.
    """
    workers = workers or cores() + 1
    for job in jobs:
        sheet_output = {} if job.sheet is None else {"sheet": job.sheet}
        sheet_missing = writer.missing(sheet_output)
        if sheet_missing or any(writer.missing(image.outputs) for image in job.images):
            yield from _write_group(predictor, job, writer, bool(sheet_missing), orders, seed, workers, advance)
        else:
            for image in job.images:
                advance(1)
                yield Result(image.source, image.outputs, skipped=True, group=job.name)
        if sheet_output and not sheet_missing:
            yield Result(job.source, sheet_output, skipped=True, group=job.name)


def _write_group(predictor, job, writer, with_sheet, orders, seed, workers, advance):
    start = time.perf_counter()
    sources = [image.source for image in job.images]
    options = {"orders": orders, "seed": seed, "jobs": workers}
    with predictor.encode(sources, **options, progress=lambda: advance(0.5)) as group:
        sheet = Sheet(list(group.sizes.values())) if with_sheet and group.sizes else None
        note = f"{job.name}: {SINGLE_IMAGE_NOTE}." if len(group.positions) == 1 else None

        def process(index):
            return _write_image(predictor, job, index, group, writer, sheet, note)

        with contextlib.closing(ordered_map(process, range(len(sources)), workers=workers)) as results:
            for result in results:
                advance(0.5)
                yield result
    if sheet is not None:
        result = Result(job.source, group=job.name)
        with result.recording():
            write(encode(sheet.pixels, job.sheet), job.sheet)
            writer.written.append(job.sheet)
            result.outputs, result.size = {"sheet": job.sheet}, sheet.pixels.shape[:2]
        result.seconds = time.perf_counter() - start
        yield result


def _write_image(predictor, job, index, group, writer, sheet, note):
    image = job.images[index]
    result = Result(image.source, group=job.name)
    missing = writer.missing(image.outputs)
    if not missing and sheet is None and index not in group.errors:
        result.outputs, result.skipped, result.note = image.outputs, True, note
        return result
    with result.recording():
        if index in group.errors:
            raise group.errors[index]
        result.note = note
        decoded, whole = None, not KINDS_OF_THE_MAP.issuperset(missing)
        if whole or sheet is not None:
            decoded = predictor.read(image.source, whole=whole)
        saliency_map, variance = group.map(index, decoded)
        saliency_map = writer.refine(saliency_map)
        result.locate(saliency_map, missing)
        if variance is not None:
            result.variance = float(variance.mean())
        if sheet is not None:
            sheet.put(group.positions[index], decoded.rgb, saliency_map)
        writer.save(missing, decoded or DecodedImage(None, saliency_map.shape), saliency_map)
        result.outputs, result.size = image.outputs, group.sizes[index]
    return result
