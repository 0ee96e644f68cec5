"""Predict saliency maps: `saliency` for one image, `Predictor` for many."""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, overload

import numpy as np
from PIL import Image

from keras_recnet import presets
from keras_recnet.errors import ImageError, PresetError
from keras_recnet.imaging.reading import MAX_PIXELS, DecodedImage, read
from keras_recnet.imaging.resizing import resize, resize_map
from keras_recnet.parallel import cores, ordered_map

DEFAULT_PRESET = "recnet_lite0"
ENGINES = ("litert", "keras")


class Predictor:
    """Predicts the saliency maps of images, each at the image's own size, with a network that is loaded once.

    Several threads may call a predictor at once. Memory use does not grow with the number of images.

    Args:
        preset: name of a shipped preset, or a preset folder.
        engine: `"litert"` runs the preset's LiteRT file without TensorFlow and Keras, `"keras"` its Keras weights on
            any Keras backend. None selects `"litert"` if the preset and the other arguments allow it; otherwise
            `engine_note` says why not.
        precision: `"float16"` runs the preset's `model.tflite`, which has float16 weights and computes in float32;
            `"int8"` runs `model.int8.tflite`, which is faster and slightly less accurate.
        size: input height and width of the network, one number or two; None: the preset's own. A size other than the
            LiteRT file's needs the Keras engine.
        fusion: how the branches are fused, as in `RecNet.to_inference`; None: the preset's own. A different fusion
            needs the Keras engine.
        threads: number of threads of the LiteRT engine per image. None: all cores for a call, and one thread per image
            for `map`, which runs one image per core. With a number, calls and `map` both run cores // `threads` images
            in parallel; 1 gives the highest throughput in a server that calls from many threads.
        flip: whether to average the maps of the image and its mirror image (test-time augmentation): softer
            maps in twice the time.
        max_pixels: images with more pixels are refused before they are decoded. Pillow's own limit
            (`PIL.Image.MAX_IMAGE_PIXELS`) applies too.

    Attributes:
        preset: the `keras_recnet.presets.Preset`.
        engine: the engine that runs the network; `.name`, `.size`, `.threads`.
        engine_note: why the Keras engine was selected, or None.

    Raises:
        PresetError: if the preset does not exist, is damaged, or lacks what the engine needs.
        MissingExtraError: if the engine's package is not installed.

    Example:
        >>> predictor = Predictor()
        >>> predictor("photo.jpg").shape
        (3000, 4000)
        >>> for saliency_map in predictor.map(Path("photos").glob("*.jpg")):
        ...     print(saliency_map.mean())

    Reference:
        Averaging over mirrored images is our addition, after Krizhevsky et al., NIPS 2012.
    """

    def __init__(
        self,
        preset: str | os.PathLike = DEFAULT_PRESET,
        *,
        engine: str | None = None,
        precision: str = "float16",
        size: int | tuple[int, int] | None = None,
        fusion: str | None = None,
        threads: int | None = None,
        flip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ):
        self.preset = presets.find(preset)
        if self.preset.task != presets.SALIENCY:
            raise PresetError(
                f"{self.preset.folder}: this network needs groups of images. Use `keras-recnet cosal`, in Python "
                f"GroupPredictor."
            )
        self.flip, self.max_pixels = flip, max_pixels
        size = height_and_width(size)
        options = {"precision": precision, "size": size, "fusion": fusion}
        name, self.engine_note = select_engine(self.preset, engine, **options)
        self.precision = precision if name == "litert" else "float32"
        if name == "keras":
            from keras_recnet.inference.engines import KerasEngine

            self.engine = KerasEngine(self.preset, size=size, fusion=fusion)
        else:
            from keras_recnet.inference.engines import LiteRTEngine

            self.engine = LiteRTEngine(self.preset.file(presets.LITERT_FILES[precision]), threads=threads or cores())
        self._one_thread_per_image = self.engine.name == "litert" and threads is None
        self._parallel_engine, self._parallel_lock = None, threading.Lock()

    def __str__(self):
        height, width = self.engine.size
        flipped = " and mirrored" if self.flip else ""
        int8 = " int8" if self.precision == "int8" else ""
        return f"{self.preset.name}, {self.engine.name}{int8} {height}×{width}{flipped}, {self.engine.device}"

    def __call__(self, image) -> np.ndarray:
        """Predict the saliency map of an image.

        Args:
            image: a path, the bytes of a file, a `PIL.Image.Image` or an RGB array; see
                `keras_recnet.imaging.reading.read`.

        Returns:
            float32 `(H, W)` in 0…1, at the size of the image after EXIF rotation.

        Raises:
            ImageError: if the image cannot be read or is too large.
        """
        return self.predict(self._read(image))

    def predict(self, decoded: DecodedImage, *, parallel: bool = False) -> np.ndarray:
        """Predict, as a call does, the map of an image that has already been read.

        Args:
            decoded: an image as returned by `keras_recnet.imaging.reading.read`.
            parallel: whether other threads predict at the same time, so that this image should use one core only.
        """
        engine = self._engine_for_parallel_use() if parallel else self.engine
        rgb = resize(decoded.rgb, engine.size)
        saliency_map = engine(rgb)
        if self.flip:
            saliency_map = (saliency_map + engine(np.ascontiguousarray(rgb[:, ::-1]))[:, ::-1]) / 2
        return resize_map(saliency_map, decoded.size)

    def _engine_for_parallel_use(self):
        if not self._one_thread_per_image:
            return self.engine
        with self._parallel_lock:
            if self._parallel_engine is None:
                self._parallel_engine = self.engine.single_threaded()
            return self._parallel_engine

    def attention(self, decoded: DecodedImage, pixel: tuple[int, int]) -> np.ndarray:
        """Compute the attention weights of one pixel, as `RecNet.attention_map` does. Needs the Keras engine.

        Args:
            decoded: an image as returned by `keras_recnet.imaging.reading.read`.
            pixel: (row, column) in the full-size image.

        Returns:
            float `(h, w)`, not negative, at the attention's resolution.

        Raises:
            PresetError: with the LiteRT engine, whose file outputs only the map.
        """
        if self.engine.name != "keras":
            raise PresetError("Attention needs the Keras engine (--engine keras; in Python engine='keras').")
        height, width = self.engine.size
        place = (pixel[0] * height // decoded.size[0], pixel[1] * width // decoded.size[1])
        return self.engine.attention(resize(decoded.rgb, self.engine.size), place)

    @overload
    def map(
        self, images: Iterable, *, jobs: int | None = None, errors: Literal["raise"] = "raise"
    ) -> Iterator[np.ndarray]: ...

    @overload
    def map(self, images: Iterable, *, jobs: int | None = None, errors: str) -> Iterator[np.ndarray | ImageError]: ...

    def map(self, images, *, jobs=None, errors="raise"):
        """Predict the maps of many images, in order. Images are decoded in threads while the network runs.

        Args:
            images: any number of images, each as for a call; read lazily.
            jobs: number of threads; None: one more than the process has cores.
            errors: for an image that cannot be read: `"raise"` its `ImageError` when its turn comes, or `"return"` the
                error instead of its map.

        Yields:
            A map per image, as returned by a call.
        """
        if errors not in ("raise", "return"):
            raise ValueError(f"`errors` must be 'raise' or 'return'. Received: errors={errors!r}")
        jobs = jobs or cores() + 1
        predict = functools.partial(self._predict_or_error, errors, jobs > 1)
        return ordered_map(predict, snapshots(images, self._read), workers=jobs)

    def _predict_or_error(self, errors, parallel, image):
        try:
            decoded = self._read(image)
        except ImageError as error:
            if errors == "raise":
                raise
            return error
        return self.predict(decoded, parallel=parallel)

    def _read(self, image):
        return read_snapshot(image, fit=self.engine.size, max_pixels=self.max_pixels)


def snapshots(images: Iterable, read: Callable) -> Iterator:
    """Yield images that do not change later, even if their iterator reuses one object for all frames.

    Arrays are copied, and Pillow images are read immediately unless they are still undecoded files. The images of a
    list or tuple are safe as they are.

    Args:
        images: any images.
        read: reads an image, and also accepts what this function yields; see `read_snapshot`.
    """
    if isinstance(images, (list, tuple)):
        yield from images
        return
    for image in images:
        if isinstance(image, Image.Image):
            undecoded = bool(getattr(image, "tile", None)) and not getattr(image, "is_animated", False)
            try:
                yield image if undecoded else read(image)
            except ImageError as error:
                yield error
        elif isinstance(image, (bytearray, memoryview)):
            yield bytes(image)
        else:
            yield np.array(image) if hasattr(image, "__array__") else image


def read_snapshot(image, **options) -> DecodedImage:
    """Call `keras_recnet.imaging.reading.read` for an image or what `snapshots` yielded in its place."""
    if isinstance(image, ImageError):
        raise image
    return image if isinstance(image, DecodedImage) else read(image, **options)


def height_and_width(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return `(height, width)` for one number or two."""
    return (size, size) if isinstance(size, int) else size and tuple(size)


def select_engine(
    preset: presets.Preset,
    engine: str | None,
    *,
    precision: str = "float16",
    size: tuple[int, int] | None = None,
    fusion: str | None = None,
) -> tuple[str, str | None]:
    """Return the name of the engine to use and, if it is Keras without being requested, the reason.

    Raises:
        PresetError: if the LiteRT engine or int8, which needs it, was requested, but the preset or another argument
            does not allow it.
    """
    if engine not in (None, *ENGINES):
        raise ValueError(f"`engine` must be one of {ENGINES} or None. Received: engine={engine!r}")
    if precision not in presets.LITERT_FILES:
        raise ValueError(f"`precision` must be one of {tuple(presets.LITERT_FILES)}. Received: precision={precision!r}")
    obstacle = _obstacle_to_litert(preset, presets.LITERT_FILES[precision], size, fusion)
    if precision == "int8" and (obstacle or engine == "keras"):
        raise PresetError(f"{preset.folder}: int8 cannot be used: {obstacle or 'it needs the LiteRT engine'}.")
    if engine == "litert" and obstacle:
        raise PresetError(f"{preset.folder}: the LiteRT engine cannot be used: {obstacle}. Use the Keras engine.")
    if engine == "keras" or not obstacle:
        return engine or "litert", None
    return "keras", f"using the Keras engine, which starts slowly: {obstacle}"


def _obstacle_to_litert(preset, file, size, fusion):
    if not preset.has(file):
        how = ", precision='int8', calibration=PHOTOS" if file == presets.LITERT_INT8 else ""
        call = f"keras_recnet.export.add_to_preset({os.fspath(preset.folder)!r}{how})"
        return f"the preset {preset.name!r} has no {file} ({call} writes it)"
    own_size, own_fusion = tuple(preset.config["image_size"]), preset.config.get("fusion")
    if size not in (None, own_size):
        return "its LiteRT file is for {}×{}, not for {}×{}".format(*own_size, *size)
    if fusion not in (None, own_fusion):
        return f"its LiteRT file has the fusion {own_fusion!r}, not {fusion!r}"
    return None


_lock = threading.Lock()


def default_predictor() -> Predictor:
    """Return the predictor with the shipped preset, which is loaded at the first call."""
    with _lock:  # only one thread loads the network
        return _load_default_predictor()


@functools.cache
def _load_default_predictor():
    return Predictor()


def saliency(image) -> np.ndarray:
    """Predict the saliency map of an image with the shipped preset, which is loaded at the first call.

    Args:
        image: a path, the bytes of a file, a `PIL.Image.Image` or an RGB array: `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or
            `(H, W, 4)`; bool, uint8, uint16, or float in 0…1.

    Returns:
        float32 `(H, W)` in 0…1, at the size of the image after EXIF rotation.

    Raises:
        ImageError: if the image cannot be read or is too large.

    Example:
        >>> import keras_recnet
        >>> saliency_map = keras_recnet.saliency("photo.jpg")
    """
    return default_predictor()(image)
