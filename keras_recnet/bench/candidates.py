"""Candidates of a benchmark."""

import dataclasses
import importlib.util
import os
from pathlib import Path

from keras_recnet.errors import ConfigError, MissingExtraError

LITERT, KERAS, SAVED_MODEL, ONNX, PRODUCT = "litert", "keras", "savedmodel", "onnx", "product"
ENGINES = (LITERT, KERAS, SAVED_MODEL)
PRECISIONS = ("float16", "float32", "int8")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A network in one engine and one precision.

    Attributes:
        network: name in tables.
        engine: one of `ENGINES`, `"onnx"`, or `"product"` for a matrix product.
        precision: `"float32"`; `"float16"`: float16 weights in LiteRT, mixed precision in other engines; or `"int8"`,
            only in LiteRT.
        source: the file or folder; for a matrix product, the size of the matrices.
        bytes: size of the source on disk.
        size: height and width of the input, if `source` does not fix them.
        takes_groups: whether it is a co-saliency network, with the parts encode, step and decode.
        is_peer: whether the network is included only for comparison.
    """

    network: str
    engine: str
    precision: str
    source: str
    bytes: int = 0
    size: tuple[int, int] | None = None
    takes_groups: bool = False
    is_peer: bool = False

    def __str__(self):
        return f"{self.network} ({self.engine}, {self.precision})"


def peer(file: str, size: tuple[int, int] | None = None) -> Candidate:
    """Return the candidate for an ONNX file, used for comparison.

    Args:
        file: path of the ONNX file.
        size: height and width of the input, if the file does not fix them.

    Raises:
        ConfigError: if the file does not exist.
        MissingExtraError: if ONNX Runtime is not installed.
    """
    if not os.path.isfile(file):
        raise ConfigError(f"{file}: no such file. --against expects an ONNX file.")
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError(f"{file}: ONNX Runtime is not installed: pip install onnxruntime")
    return Candidate(Path(file).stem, ONNX, "float32", file, os.path.getsize(file), size, is_peer=True)


def product(side: int) -> Candidate:
    """Return the candidate for a product of two `side` × `side` float32 matrices in TensorFlow.

    Raises:
        MissingExtraError: if TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError('--rate needs TensorFlow: pip install "keras-recnet[tensorflow]"')
    return Candidate(f"{side}×{side} product", PRODUCT, "float32", str(side))


def disk_size(path: str | os.PathLike) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    path = Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
