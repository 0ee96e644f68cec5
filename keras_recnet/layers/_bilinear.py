"""Bilinear initializer for transposed convolutions."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class Bilinear(keras.initializers.Initializer):
    """Initializes the kernel of a transposed convolution to bilinear upsampling of each channel.

    With kernel size 2s and stride s, the layer upsamples by the factor s, exactly except at the image border. Output
    channel c copies input channel c; output channels without a matching input channel are zero.

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
    """1-D bilinear kernel, `[1, 3, 3, 1] / 4` for `size=4`."""
    stride = size // 2
    return 1 - np.abs(np.arange(size) - (size - 1) / 2) / stride
