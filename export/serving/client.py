"""The part of both clients that does not depend on the protocol: requests, retries, maps and errors."""

import abc
import contextlib
import functools
import io
import itertools
import os
import random
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_recnet.errors import ImageError, MissingExtraError, RecNetError
from keras_recnet.export.serving.codec import decode_map, encode_image
from keras_recnet.imaging.reading import MAX_PIXELS, snapshot
from keras_recnet.parallel import ordered_map

SIGNATURE, IMAGES, MAPS, STATUS = "encoded", "image_bytes", "saliency_bytes", "status"
OK = 0
_REFUSED = {
    1: "undecodable: the server finds no complete JPEG or PNG in it. Copy or save it again.",
    2: "too large: it has more pixels than the server accepts. Send a smaller one.",
}

# With request batching, one bad request fails the whole batch, other clients' requests included.
_OTHER_REQUEST_FAILED = ("from different tasks have different shapes", "Tensor concat operation failed")
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_RETRY_AFTER = 0.2, 10.0, 60.0  # seconds


class RequestImageError(ImageError):
    """An image without a map: it cannot be read, or the server refused it. Other images are not affected.

    Attributes:
        index: position of the image in the input, from 0.
        name: path of the image, or None.
        status: status from the server, 1 (undecodable) or 2 (too large); None if the image was not sent.
    """

    def __init__(self, index: int, name: str | None, reason: str, status: int | None = None):
        super().__init__(f"{_label(index, name)}: {reason}")
        self.index, self.name, self.status = index, name, status


class ServerError(RecNetError):
    """The server cannot be reached, does not answer in time, refuses a request, or sends an invalid answer.

    Attributes:
        code: HTTP status (404) or name of the gRPC status ("NOT_FOUND"); None if there was no answer.
        temporary: whether the same request may succeed later.
        retry_after: number of seconds that the server asks to wait, or None.
    """

    def __init__(self, message: str, *, code=None, temporary: bool = False, retry_after: float | None = None):
        super().__init__(message)
        self.code, self.retry_after = code, retry_after
        self.temporary = temporary or any(part in message for part in _OTHER_REQUEST_FAILED)

    def with_message(self, message: str) -> "ServerError":
        """Return the same error with a different message."""
        return ServerError(message, code=self.code, temporary=self.temporary, retry_after=self.retry_after)


class Answer(NamedTuple):
    """The server's answer for one image.

    Attributes:
        status: 0 good, 1 undecodable, 2 too large.
        png: the map, an 8-bit gray PNG file of the image's size; empty unless the status is 0.
    """

    status: int
    png: bytes


class Client(abc.ABC):
    """Client of the signature `encoded` of a RecNet in TF Serving.

    It can be used from several threads, and as a context manager, which closes the client at the end.

    Args:
        model: name of the model on the server.
        version: version of the model; None: the newest, and always for KServe, which has no versions.
        timeout: number of seconds to wait for one answer.
        retries: number of retries when the server cannot be reached, is busy or slow, or failed the request because of
            another client's request in the same batch. The pauses double from 0.2 to 10 seconds, minus a random part;
            a server may ask for up to 60 seconds. Requests do not change the server, so a retry does no harm.
        max_request_bytes: limit of the total size of the image files in one request. A larger file is sent alone.
        max_pixels: limit for images that the client has to decode.
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
        """Compute the saliency map of one image.

        Args:
            image: a path, the bytes of a file, a `PIL.Image.Image` or an array in RGB; see
                `keras_recnet.imaging.reading.read`.

        Returns:
            float32 `(H, W)` in 0…1, of the size of the image after its EXIF rotation.

        Raises:
            RequestImageError: if the image cannot be read or the server refuses it.
            ServerError: if the server fails.
        """
        (saliency_map,) = self._maps([(0, image)], threading.Event())
        if isinstance(saliency_map, RequestImageError):
            raise saliency_map
        return saliency_map

    def map(
        self, images: Iterable, *, batch_size: int = 8, jobs: int = 2, errors: str = "raise"
    ) -> Iterator[np.ndarray | RequestImageError]:
        """Compute the saliency maps of many images, in order.

        Args:
            images: any number of images, as for a call; read lazily and in threads. An array or other mutable object
                may be changed and yielded again.
            batch_size: number of images per request, at most the `max_batch_size` of a server that batches requests.
            jobs: number of concurrent requests.
            errors: `"raise"` raises a `RequestImageError` for an image without a map, `"return"` yields it instead
                of the map.

        Yields:
            Maps, as returned by a call.

        Raises:
            ServerError: if the server fails; the message names the images of the request.
        """
        if errors not in ("raise", "return"):
            raise ValueError(f"`errors` must be 'raise' or 'return'. Received: errors={errors!r}")
        for name, value in (("batch_size", batch_size), ("jobs", jobs)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value!r}")
        return self._map(images, batch_size, jobs, errors)

    def send(self, files: Sequence[bytes]) -> list[Answer]:
        """Send image files unchanged in one request, and return one answer per file.

        Raises:
            ServerError: if the server fails.
        """
        return self._send(files, threading.Event())

    def _send(self, files, stop):
        for attempt in itertools.count(1):
            try:
                answers = self._request(files)
                break
            except ServerError as error:
                if not error.temporary or attempt > self.retries:
                    if attempt == 1:
                        raise
                    raise error.with_message(f"{error} Tried {attempt} times.") from error
                # randomized, so that clients that were refused at the same time do not all retry at the same time
                pause = min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
                if stop.wait(max(pause, min(error.retry_after or 0.0, _LONGEST_RETRY_AFTER))):
                    raise
        if len(answers) != len(files):
            raise ServerError(
                f"{self}: {len(answers)} answers for {len(files)} images. Check that the model is an exported RecNet."
            )
        return answers

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Wait until the server has loaded the model.

        Raises:
            ServerError: if the model is not loaded after `seconds`.
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
        """Return whether the server can be reached and has loaded the model."""

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connections."""

    @abc.abstractmethod
    def _request(self, files: Sequence[bytes]) -> list[Answer]:
        """Send one request, without retries."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _map(self, images, batch_size, jobs, errors):
        numbered = enumerate(map(snapshot, images))
        batches = iter(lambda: list(itertools.islice(numbered, batch_size)), [])
        stop = threading.Event()  # after an interruption, requests are not repeated
        maps = functools.partial(self._maps, stop=stop)
        with contextlib.closing(ordered_map(maps, batches, workers=jobs, on_end=stop.set)) as results:
            for saliency_map in itertools.chain.from_iterable(results):
                if errors == "raise" and isinstance(saliency_map, RequestImageError):
                    raise saliency_map
                yield saliency_map

    def _maps(self, batch, stop):
        """Return a map or a `RequestImageError` for each `(index, image)` of a batch."""
        results, waiting = {}, []
        for index, image in batch:
            name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
            try:
                file = encode_image(image, max_pixels=self.max_pixels, name=name)
            except (ImageError, MissingExtraError) as error:
                results[index] = RequestImageError(index, name, str(error).removeprefix(f"{name}: "))
                continue
            if waiting and sum(len(other) for *_, other in waiting) + len(file) > self.max_request_bytes:
                results |= self._maps_of_files(waiting, stop)
                waiting = []
            waiting.append((index, name, file))
        if waiting:
            results |= self._maps_of_files(waiting, stop)
        return [results[index] for index, _ in batch]

    def _maps_of_files(self, files, stop):
        try:
            answers = self._send([file for *_, file in files], stop)
        except ServerError as error:
            first, last = (_label(index, name) for index, name, _ in (files[0], files[-1]))
            raise error.with_message(f"{first if len(files) == 1 else f'{first} to {last}'}: {error}") from error
        results = {}
        for (index, name, file), answer in zip(files, answers, strict=True):
            if answer.status == OK:
                results[index] = self._map_in(answer.png, file, _label(index, name))
            else:
                reason = _REFUSED.get(answer.status, f"refused by the server with status {answer.status}.")
                results[index] = RequestImageError(index, name, reason, answer.status)
        return results

    def _map_in(self, png, file, label):
        with Image.open(io.BytesIO(file)) as image:  # reads only the header
            width, height = image.size
        try:
            # 8 bits, color type gray: Pillow would read other files too
            if png[16:26] == struct.pack(">IIBB", width, height, 8, 0):
                return decode_map(png)
            reason = ""
        except OSError as error:
            reason = f" ({error})"
        raise ServerError(
            f"{label}: {self}: the map is not an 8-bit gray PNG file of {width} × {height} pixels{reason}. Check that "
            f"the model is an exported RecNet."
        )


def _label(index, name):
    return f"image {index}" + (f" ({name})" if name else "")
