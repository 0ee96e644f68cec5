"""Pictures to saliency maps: `saliency` for one, `Predictor` for many."""

import functools
import os
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from keras_recnet import presets
from keras_recnet.errors import ImageError, PresetError
from keras_recnet.imaging.reading import MAX_PIXELS, Picture, read
from keras_recnet.imaging.resizing import resize, resize_map
from keras_recnet.parallel import cores, ordered

DEFAULT_PRESET = "recnet_lite0"
ENGINES = ("litert", "keras")


class Predictor:
    """A network, loaded once, that turns pictures into saliency maps of their own size.

    It may be called from several threads at once. It holds the network and a few pictures, however many it is given.

    Args:
        preset: name of a preset that ships, or a preset's folder.
        engine: `"litert"` runs the preset's LiteRT file without TensorFlow and Keras, `"keras"` its Keras weights on
            Keras' backend. None takes `"litert"` where the preset and the other arguments allow it; `engine_note` says
            why not.
        size: height and width at which the network sees a picture, one number or two; None: the preset's own. Another
            size than the LiteRT file's needs the Keras engine.
        fusion: how the branches are joined, as in `RecNet.to_inference`; None: the preset's way. Another one needs the
            Keras engine.
        threads: of the LiteRT engine on one picture. None: as many as the process has cores for a call, and for `map`
            one thread a picture, as many pictures as cores. With a number, calls and `map` both run cores // `threads`
            pictures at once; a server that is called from many threads gets the most done with 1.
        flip: also predict the mirror image, and take the mean of the two maps (ours; test-time augmentation, as in
            Krizhevsky et al., NIPS 2012, who average over crops and their mirror images). Slightly better maps in
            twice the time.
        max_pixels: pictures with more pixels are refused before they are decoded. Pillow's own limits
            (`PIL.Image.MAX_IMAGE_PIXELS`) hold beside it.

    Attributes:
        preset: the `keras_recnet.presets.Preset`.
        engine: what runs the network; `.name`, `.size`, `.threads`.
        engine_note: why the Keras engine was taken, or None.

    Raises:
        PresetError: if there is no such preset, it is damaged, or it lacks what the engine needs.
        MissingExtraError: if the engine's package is not installed.

    Example:
        >>> predictor = Predictor()
        >>> predictor("photo.jpg").shape
        (3000, 4000)
        >>> for saliency_map in predictor.map(Path("photos").glob("*.jpg")):
        ...     print(saliency_map.mean())
    """

    def __init__(
        self,
        preset: str | os.PathLike = DEFAULT_PRESET,
        *,
        engine: str | None = None,
        size: int | tuple[int, int] | None = None,
        fusion: str | None = None,
        threads: int | None = None,
        flip: bool = False,
        max_pixels: int = MAX_PIXELS,
    ):
        self.preset = presets.find(preset)
        if self.preset.task != presets.SALIENCY:
            raise PresetError(
                f"{self.preset.folder}: a network for groups of pictures: use it with `keras-recnet cosal`, in Python "
                f"with GroupPredictor."
            )
        self.flip, self.max_pixels = flip, max_pixels
        size = both_sides(size)
        name, self.engine_note = which_engine(self.preset, engine, size=size, fusion=fusion)
        if name == "keras":
            from keras_recnet.inference.engines import KerasEngine

            self.engine = KerasEngine(self.preset, size=size, fusion=fusion)
        else:
            from keras_recnet.inference.engines import LiteRTEngine

            self.engine = LiteRTEngine(self.preset.file(presets.LITERT), threads=threads or cores())
        self._divides_cores = self.engine.name == "litert" and threads is None
        self._many, self._making_many = None, threading.Lock()

    def __str__(self):
        height, width = self.engine.size
        mirrored = " and mirrored" if self.flip else ""
        return f"{self.preset.name}, {self.engine.name} {height}×{width}{mirrored}, {self.engine.device}"

    def __call__(self, image) -> np.ndarray:
        """The saliency map of one picture.

        Args:
            image: a path, the bytes of a file, a `PIL.Image.Image` or an array in RGB; see
                `keras_recnet.imaging.reading.read`.

        Returns:
            float32 `(H, W)` in 0…1, at the picture's own size after its EXIF rotation.

        Raises:
            ImageError: if it cannot be read or is refused.
        """
        return self.of_picture(read(image, fit=self.engine.size, max_pixels=self.max_pixels))

    def of_picture(self, picture: Picture, *, one_of_many: bool = False) -> np.ndarray:
        """The map, as of a call, of a picture that was read before.

        Args:
            picture: as `read` gives it.
            one_of_many: others are worked on at the same time, in other threads: take one core and leave them theirs.
        """
        engine = self._engine_for_many() if one_of_many else self.engine
        rgb = resize(picture.rgb, engine.size)
        saliency_map = engine(rgb)
        if self.flip:
            saliency_map = (saliency_map + engine(np.ascontiguousarray(rgb[:, ::-1]))[:, ::-1]) / 2
        return resize_map(saliency_map, picture.size)

    def _engine_for_many(self):
        if not self._divides_cores:
            return self.engine
        with self._making_many:
            if self._many is None:
                self._many = self.engine.of_one_thread()
            return self._many

    def attention(self, picture: Picture, pixel: tuple[int, int]) -> np.ndarray:
        """What one pixel of a picture attends to, as `RecNet.attention_map`; with the Keras engine only.

        Args:
            picture: as `read` gives it.
            pixel: (row, column) in the whole picture.

        Returns:
            float `(h, w)`, not negative, at the attention's own resolution.

        Raises:
            PresetError: with the LiteRT engine, whose file ends in the map alone.
        """
        if self.engine.name != "keras":
            raise PresetError("Attention needs the Keras engine (--engine keras; in Python engine='keras').")
        height, width = self.engine.size
        place = (pixel[0] * height // picture.size[0], pixel[1] * width // picture.size[1])
        return self.engine.attention(resize(picture.rgb, self.engine.size), place)

    def map(self, images: Iterable, *, jobs: int | None = None, errors: str = "raise") -> Iterator[np.ndarray]:
        """Maps of many pictures, in their order; pictures are decoded in threads while the network runs.

        Args:
            images: any number of pictures, as of a call; taken as they are needed.
            jobs: threads; None: one more than the process has cores.
            errors: what happens for a picture that cannot be read: `"raise"` the `ImageError` at its turn, or
                `"return"` it in the place of its map.

        Yields:
            as a call returns.
        """
        if errors not in ("raise", "return"):
            raise ValueError(f"`errors` must be 'raise' or 'return'. Received: errors={errors!r}")
        jobs = jobs or cores() + 1
        return ordered(functools.partial(self._map_one, errors, jobs > 1), images, workers=jobs)

    def _map_one(self, errors, one_of_many, image):
        try:
            picture = read(image, fit=self.engine.size, max_pixels=self.max_pixels)
        except ImageError as error:
            if errors == "raise":
                raise
            return error
        return self.of_picture(picture, one_of_many=one_of_many)


def both_sides(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width from one number or two."""
    return (size, size) if isinstance(size, int) else size and tuple(size)


def which_engine(
    preset: presets.Preset, engine: str | None, *, size: tuple[int, int] | None = None, fusion: str | None = None
) -> tuple[str, str | None]:
    """The engine to take, and why it is the Keras engine where none was asked for.

    Raises:
        PresetError: if the LiteRT engine was asked for, and the preset or another argument does not allow it.
    """
    if engine not in (None, *ENGINES):
        raise ValueError(f"`engine` must be one of {ENGINES} or None. Received: engine={engine!r}")
    obstacle = _obstacle_to_litert(preset, size, fusion)
    if engine == "litert" and obstacle:
        raise PresetError(f"{preset.folder}: not for the LiteRT engine: {obstacle}. Use the Keras engine.")
    if engine == "keras" or not obstacle:
        return engine or "litert", None
    return "keras", f"using the Keras engine, which starts slowly: {obstacle}"


def _obstacle_to_litert(preset, size, fusion):
    if not preset.has(presets.LITERT):
        return f"the preset {preset.name!r} has no {presets.LITERT} (keras_recnet.export.add_to_preset makes it)"
    own_size, own_fusion = tuple(preset.config["image_size"]), preset.config.get("fusion")
    if size not in (None, own_size):
        return "its LiteRT file is for {}×{}, not for {}×{}".format(*own_size, *size)
    if fusion not in (None, own_fusion):
        return f"its LiteRT file has the fusion {own_fusion!r}, not {fusion!r}"
    return None


_lock = threading.Lock()


@functools.cache
def _default_predictor():
    return Predictor()


def saliency(image) -> np.ndarray:
    """The saliency map of one picture, by the preset that ships. The network is loaded at the first call and kept.

    Args:
        image: a path, the bytes of a file, a `PIL.Image.Image` or an array in RGB: `(H, W)`, `(H, W, 1)`, `(H, W, 3)`
            or `(H, W, 4)`; bool, uint8, uint16, or float in 0…1.

    Returns:
        float32 `(H, W)` in 0…1, at the picture's own size after its EXIF rotation.

    Raises:
        ImageError: if it cannot be read or is refused.

    Example:
        >>> import keras_recnet
        >>> saliency_map = keras_recnet.saliency("photo.jpg")
    """
    with _lock:  # only one thread loads the network
        predictor = _default_predictor()
    return predictor(image)
