"""What the clients of both protocols share: batches, retries, maps, and errors that name the picture."""

import abc
import contextlib
import itertools
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_recnet.errors import ImageError, MissingExtraError, RecNetError
from keras_recnet.export.serving.pictures import to_map, to_send
from keras_recnet.imaging.reading import MAX_PIXELS
from keras_recnet.parallel import ordered

SIGNATURE, IMAGES, MAPS, STATUS = "encoded", "image_bytes", "saliency_bytes", "status"
GOOD = 0
_REFUSED = {
    1: "undecodable: the server finds no whole JPEG or PNG in it. Copy or save it again.",
    2: "too large: it has more pixels than the server takes. Send it smaller.",
}

# A server that merges requests fails all of a batch for one that does not fit in, of whomever it is.
_OF_A_NEIGHBOUR = ("from different tasks have different shapes", "Tensor concat operation failed")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds


class PictureError(ImageError):
    """A picture without a map: it cannot be read here, or the server refused it. The others have theirs.

    Attributes:
        index: its place among the pictures given, from 0.
        name: its path, or None.
        status: the server's, 1 undecodable, 2 too large; None if it was not sent.
    """

    def __init__(self, index: int, name: str | None, why: str, status: int | None = None):
        super().__init__(f"{_label(index, name)}: {why}")
        self.index, self.name, self.status = index, name, status


class ServerError(RecNetError):
    """A server that cannot be reached, does not answer in time, or refuses a request as a whole.

    Attributes:
        code: the HTTP status (404) or the name of the gRPC status ("NOT_FOUND"); None: it was not reached.
        temporary: whether the same request may go well a little later.
        retry_after: seconds that the server asks to wait, or None.
    """

    def __init__(self, message: str, *, code=None, temporary: bool = False, retry_after: float | None = None):
        super().__init__(message)
        self.code, self.retry_after = code, retry_after
        self.temporary = temporary or any(part in message for part in _OF_A_NEIGHBOUR)


class Answer(NamedTuple):
    """What the server says of one picture file.

    Attributes:
        status: 0 good, 1 undecodable, 2 too large.
        png: the map, a PNG file of the picture's own size with 8 bits grey; empty unless good.
    """

    status: int
    png: bytes


class Client(abc.ABC):
    """Pictures in, maps out, by the signature `encoded` of a served RecNet.

    It may be called from several threads at once. It is closed by `close()` or at the end of a `with` block.

    Args:
        model: the name under which the server has the model.
        version: the model's version; None: the newest that is served.
        timeout: seconds to wait for one answer.
        retries: how often a request is sent again when the server is not reached, is too busy or too slow, or failed it
            together with another client's; with pauses that double, from 0.2 to 10 seconds, less a random part. A
            request changes nothing in the server, so sending it twice does no harm.
        max_request_bytes: picture files sent in one request have no more bytes together; a single one may.
        max_pixels: larger pictures are refused if they must be decoded here.
    """

    def __init__(
        self,
        model: str,
        *,
        version: int | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        max_request_bytes: int = 64 * 2**20,
        max_pixels: int = MAX_PIXELS,
    ):
        self.model, self.version, self.timeout, self.retries = model, version, timeout, retries
        self.max_request_bytes, self.max_pixels = max_request_bytes, max_pixels

    def __call__(self, image) -> np.ndarray:
        """The saliency map of one picture.

        Args:
            image: a path, the bytes of a file, a `PIL.Image.Image` or an array in RGB; see
                `keras_recnet.imaging.reading.read`.

        Returns:
            float32 `(H, W)` in 0…1, at the picture's own size after its EXIF rotation.

        Raises:
            PictureError: if it cannot be read, or the server refuses it.
            ServerError: if the server cannot be reached or fails.
        """
        (saliency_map,) = self._answer([(0, image)])
        if isinstance(saliency_map, PictureError):
            raise saliency_map
        return saliency_map

    def map(
        self, images: Iterable, *, batch_size: int = 8, jobs: int = 2, errors: str = "raise"
    ) -> Iterator[np.ndarray | PictureError]:
        """Maps of many pictures, in their order; pictures are read in threads while the server works.

        Args:
            images: any number of pictures, as of a call; taken as they are needed.
            batch_size: pictures in a request. Not more than the server's `max_batch_size`, if it merges requests.
            jobs: requests under way at once.
            errors: what happens for a picture that has no map: `"raise"` the `PictureError` at its turn, or
                `"return"` it in the place of its map.

        Yields:
            as a call returns.

        Raises:
            ServerError: if the server cannot be reached or fails; it names the pictures of the request.
        """
        if errors not in ("raise", "return"):
            raise ValueError(f"`errors` must be 'raise' or 'return'. Received: errors={errors!r}")
        for name, value in (("batch_size", batch_size), ("jobs", jobs)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value!r}")
        return self._map(images, batch_size, jobs, errors)

    def send(self, files: Sequence[bytes]) -> list[Answer]:
        """Sends the bytes of picture files as they are, in one request, and gives the server's answer to each.

        Raises:
            ServerError: if the server cannot be reached or fails.
        """
        for attempt in itertools.count(1):
            try:
                answers = self._ask(files)
                break
            except ServerError as error:
                if not error.temporary or attempt > self.retries:
                    raise _again(error, f"{error} Tried {attempt} times." if attempt > 1 else str(error)) from error
                # a random part, so that clients turned away together do not come back together
                pause = min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
                time.sleep(max(pause, error.retry_after or 0.0))
        if len(answers) != len(files):
            raise ServerError(
                f"{self}: {len(answers)} answers for {len(files)} pictures. Is the model a RecNet's export?"
            )
        return answers

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Waits until the server has loaded the model.

        Raises:
            ServerError: if it has not after `seconds`.
        """
        end = time.monotonic() + seconds
        while not self.is_ready():
            if time.monotonic() > end:
                raise ServerError(
                    f"{self}: not ready after {seconds:g} s. Check that the server runs and serves {self.model!r}."
                )
            time.sleep(0.2)

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether the server is there and has loaded the model."""

    @abc.abstractmethod
    def close(self) -> None:
        """Closes the connections."""

    @abc.abstractmethod
    def _ask(self, files: Sequence[bytes]) -> list[Answer]:
        """Sends one request, once."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _map(self, images, batch_size, jobs, errors):
        chunks = _chunks(enumerate(images), batch_size)
        with contextlib.closing(ordered(self._answer, chunks, workers=jobs)) as chunks:
            for saliency_map in itertools.chain.from_iterable(chunks):
                if errors == "raise" and isinstance(saliency_map, PictureError):
                    raise saliency_map
                yield saliency_map

    def _answer(self, chunk):
        """A map or an error for each (index, picture) of the chunk."""
        results, waiting = {}, []
        for index, image in chunk:
            name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
            try:
                file = to_send(image, max_pixels=self.max_pixels, name=name)
            except (ImageError, MissingExtraError) as error:
                results[index] = PictureError(index, name, str(error).removeprefix(f"{name}: "))
                continue
            if waiting and sum(len(other) for *_, other in waiting) + len(file) > self.max_request_bytes:
                results |= self._of_request(waiting)
                waiting = []
            waiting.append((index, name, file))
        if waiting:
            results |= self._of_request(waiting)
        return [results[index] for index, _ in chunk]

    def _of_request(self, waiting):
        try:
            answers = self.send([file for *_, file in waiting])
        except ServerError as error:
            labels = [_label(index, name) for index, name, _ in waiting]
            which = labels[0] if len(labels) == 1 else f"{labels[0]} to {labels[-1]}"
            raise _again(error, f"{which}: {error}") from error
        results = {}
        for (index, name, _), answer in zip(waiting, answers, strict=True):
            if answer.status == GOOD:
                try:
                    results[index] = to_map(answer.png)
                except OSError as error:
                    raise ServerError(f"{_label(index, name)}: {self}: the map is no PNG file ({error}).") from error
            else:
                why = _REFUSED.get(answer.status, f"refused by the server with status {answer.status}.")
                results[index] = PictureError(index, name, why, answer.status)
        return results


def _label(index, name):
    return f"picture {index}" + (f" ({name})" if name else "")


def _chunks(items, size):
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _again(error, message):
    return ServerError(message, code=error.code, temporary=error.temporary, retry_after=error.retry_after)
