"""Who takes part in a benchmark."""

import dataclasses
import importlib.util
import os
from pathlib import Path

from keras_recnet.errors import ConfigError, MissingExtraError

LITERT, KERAS, SAVED_MODEL, ONNX, PRODUCT = "litert", "keras", "savedmodel", "onnx", "product"
ENGINES = (LITERT, KERAS, SAVED_MODEL)
PRECISIONS = ("float16", "float32")


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A network in one engine and one precision.

    Attributes:
        network: what tables call it.
        engine: one of `ENGINES`, or `"onnx"`, or `"product"`: a product of two matrices.
        precision: `"float32"` or `"float16"`: of LiteRT files that of the stored weights, elsewhere mixed precision.
        source: the file or folder that is run; the side of the matrices of a product.
        bytes: its size on the disk.
        size: height and width of the network's input, where `source` leaves them open.
        of_groups: a network of groups, with the parts encode, step and decode.
        is_peer: something to compare with.
    """

    network: str
    engine: str
    precision: str
    source: str
    bytes: int = 0
    size: tuple[int, int] | None = None
    of_groups: bool = False
    is_peer: bool = False

    def __str__(self):
        return f"{self.network} ({self.engine}, {self.precision})"


def peer(file: str, size: tuple[int, int] | None = None) -> Contestant:
    """An ONNX file to compare with.

    Args:
        file: its path.
        size: height and width of its input, where the file leaves them open.

    Raises:
        ConfigError: if there is no such file.
        MissingExtraError: if ONNX Runtime is not installed.
    """
    if not os.path.isfile(file):
        raise ConfigError(f"{file}: there is no such file. --against takes the path of an ONNX file.")
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError(f"{file}: an ONNX file needs ONNX Runtime: pip install onnxruntime")
    return Contestant(Path(file).stem, ONNX, "float32", file, os.path.getsize(file), size, is_peer=True)


def product(side: int) -> Contestant:
    """The product of two float32 matrices of `side` rows and columns, by TensorFlow.

    Raises:
        MissingExtraError: if TensorFlow is not installed.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingExtraError(
            'The rate of a matrix product needs TensorFlow: pip install "keras-recnet[tensorflow]". '
            "Or leave --rate out."
        )
    return Contestant(f"{side}×{side} product", PRODUCT, "float32", str(side))


def bytes_of(path: str | os.PathLike) -> int:
    """Those of a file, or of all files below a folder."""
    path = Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
