"""The start of a transposed convolution that enlarges bilinearly."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class Bilinear(keras.initializers.Initializer):
    """A transposed convolution's kernel that enlarges each channel bilinearly and mixes none.

    With a kernel of 2s and strides of s this is bilinear enlargement by s, but for the image's border. Only the
    channels that input and output have in common are passed on.

    Reference:
        Long et al., "Fully Convolutional Networks for Semantic Segmentation", 2015; RCAU paper, Section 4.1.
    """

    def __call__(self, shape, dtype=None):
        height, width, outputs, inputs = shape
        kernel = np.zeros(shape, "float32")
        channels = np.arange(min(outputs, inputs))
        kernel[:, :, channels, channels] = np.outer(_triangle(height), _triangle(width))[:, :, None]
        return ops.convert_to_tensor(kernel, dtype=dtype)


def _triangle(size):
    """`[1, 3, 3, 1] / 4` for 4."""
    stride = size // 2
    return 1 - np.abs(np.arange(size) - (size - 1) / 2) / stride
