"""Saliency networks of other projects, from ONNX files, as teachers."""

import os
import threading

import numpy as np

from keras_recnet.errors import ConfigError
from keras_recnet.imaging.reading import MAX_PIXELS, DecodedImage
from keras_recnet.imaging.resizing import resize, resize_map
from keras_recnet.inference.onnx_session import CPU, CUDA, TYPES, open_session

# mean and standard deviation of ImageNet's RGB values in 0…1, with which PyTorch's pretrained backbones are used
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


class OnnxTeacher:
    """Predicts saliency maps with an ONNX file, on a GPU if ONNX Runtime supports it, one image at a time.

    Channels last: RGB in 0…255, as in the files of `keras-recnet export --format onnx`. Channels first: RGB in 0…1,
    normalized by ImageNet's mean and standard deviation, as in U²-Net, BiRefNet and most networks from PyTorch; uint8
    inputs are not normalized.

    The first output is the map. If it has values outside 0…1, they are taken as logits, and the map is their sigmoid.

    Args:
        file: the ONNX file.

    Attributes:
        size: `(height, width)` of the network's input.
        engine: the object itself, to be used like a `keras_recnet.Predictor`.
        max_pixels: images with more pixels are refused.

    Raises:
        ConfigError: if the file cannot be loaded, or its input is not an RGB image of a fixed size.
    """

    max_pixels = MAX_PIXELS

    def __init__(self, file: str | os.PathLike):
        self.file, self.engine = os.fspath(file), self
        self._session = open_session(self.file, (CUDA, CPU), key="teacher.onnx: ")
        inputs = self._session.get_inputs()
        self._input, self._dtype = inputs[0].name, TYPES.get(inputs[0].type)
        shape = [length if isinstance(length, int) and length > 0 else None for length in inputs[0].shape]
        if len(inputs) > 1 or self._dtype is None or len(shape) != 4 or shape[0] not in (1, None):
            raise self._error("must have one input, a float or uint8 image")
        self._channels_first = shape[1] == 3
        self.size = tuple(shape[2:] if self._channels_first else shape[1:3])
        if None in self.size or (not self._channels_first and shape[3] != 3):
            raise self._error("its input must be an RGB image of a fixed size")
        self._lock = threading.Lock()

    def __str__(self):
        return "{}, {}×{}, {}".format(self.file, *self.size, self._session.get_providers()[0])

    def predict(self, decoded: DecodedImage, *, parallel: bool = False) -> np.ndarray:
        """Predict the map of an image, float32 `(H, W)` in 0…1, at the size of the image."""
        return resize_map(self._map(resize(decoded.rgb, self.size)), decoded.size)

    def _map(self, rgb):
        """Compute the map, float32 `(h, w)`, of an image, uint8 `(height, width, 3)`."""
        image = rgb
        if self._channels_first:
            if self._dtype != "uint8":
                image = (rgb / np.float32(255) - IMAGENET_MEAN) / IMAGENET_STD
            image = np.ascontiguousarray(image.transpose(2, 0, 1))
        with self._lock:
            output = self._session.run(None, {self._input: image[None].astype(self._dtype)})[0]
        values = np.squeeze(np.asarray(output, np.float32))
        if values.ndim != 2:
            raise ConfigError(
                f"teacher.onnx: {self.file}: its first output must be one map. Received: shape={output.shape}"
            )
        if not np.isfinite(values).all():
            raise ConfigError(f"teacher.onnx: {self.file}: its first output has values that are not finite.")
        if values.min() < -1e-3 or values.max() > 1 + 1e-3:
            values = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
        return values

    def _error(self, message):
        shapes = ", ".join(f"{node.type}{list(node.shape)}" for node in self._session.get_inputs())
        return ConfigError(
            f"teacher.onnx: {self.file}: {message}. Predict the maps with the network's own code, and use --set "
            f"teacher.maps=FOLDER. Received: {shapes}"
        )
