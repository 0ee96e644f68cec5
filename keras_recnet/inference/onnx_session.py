"""ONNX files in ONNX Runtime."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_recnet.errors import ConfigError

if TYPE_CHECKING:
    import onnxruntime

TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}  # of image inputs
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def open_session(
    file: str | os.PathLike, providers: Sequence[str] = (CPU,), threads: int = 0, *, key: str = ""
) -> "onnxruntime.InferenceSession":
    """Load an ONNX file.

    Args:
        file: the file.
        providers: the devices in order of preference; those that are not available are skipped.
        threads: number of threads; 0: ONNX Runtime's default.
        key: what the error message starts with, such as the configuration key of the file.

    Raises:
        ConfigError: if the file cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    available = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(file, options, providers=[name for name in providers if name in available])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        if type(error).__module__.split(".")[0] != "onnxruntime":
            raise
        raise ConfigError(f"{key}{file}: not an ONNX file that ONNX Runtime can load ({error}).") from error
