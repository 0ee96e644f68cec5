"""Integration of a backbone's side outputs into one feature map."""

import keras
from keras import ops

from keras_recnet.layers._convolution import convolution


@keras.saving.register_keras_serializable(package="keras_recnet")
class FeatureIntegration(keras.layers.Layer):
    """Converts all side outputs of a backbone to the same stride and concatenates them.

    Each side output passes through conv 3×3, conv 3×3 and conv 1×1, each with a ReLU (ours) and `filters` channels. The
    3×3 convolutions are strided if the side output is finer than `stride`: strides (2, 1) for a factor of 2, (2, 2) for
    4, (4, 2) for 8. If the side output is coarser, the result is resized bilinearly (ours). The results are
    concatenated in the order of their names.

    RecNet has one such layer for the foreground and one for the background, with separate weights.

    Args:
        strides: dict of the side outputs' strides by name, such as `backbone.strides`.
        filters: number of channels per side output.
        stride: stride of the output.
        separable: depthwise separable 3×3 convolutions (ours, for the edge version).
        normalization: normalization after each convolution: None (the paper) or `"batch"`.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A dict of `(batch, height / strides[name], width / strides[name], channels)`.

    Output shape:
        `(batch, height / stride, width / stride, filters · number of side outputs)`.

    Raises:
        ValueError: if a side output is more than 8 times finer than `stride`, or if the names of the inputs differ from
            those in `strides`.

    Example:
        >>> backbone = keras_recnet.backbones.build("efficientnet_lite0", 224)
        >>> FeatureIntegration(backbone.strides, filters=64)(backbone.outputs).shape
        (None, 28, 28, 320)

    Reference:
        RecNet paper, "Feature Extraction" and Fig. 2.
    """

    def __init__(self, strides, *, filters=256, stride=8, separable=False, normalization=None, **kwargs):
        super().__init__(**kwargs)
        self.strides = dict(strides)
        self.filters = filters
        self.stride = stride
        self.separable = separable
        self.normalization = normalization
        self.blocks = {}
        for name in sorted(self.strides):
            first, second = self._split(name)
            options = {"separable": separable, "normalization": normalization}
            self.blocks[name] = [
                convolution(filters, 3, first, **options, name=f"{name}_1"),
                convolution(filters, 3, second, **options, name=f"{name}_2"),
                convolution(filters, 1, **options, name=f"{name}_3"),
            ]

    def _split(self, name):
        factor = max(self.stride // self.strides[name], 1)
        if factor not in (1, 2, 4, 8):
            raise ValueError(
                f"`FeatureIntegration` reduces side outputs by a factor of 1, 2, 4 or 8. Received: "
                f"stride={self.stride!r}, strides[{name!r}]={self.strides[name]!r}"
            )
        return {1: (1, 1), 2: (2, 1), 4: (2, 2), 8: (4, 2)}[factor]

    def build(self, input_shape):
        if set(input_shape) != set(self.strides):
            raise ValueError(
                f"`FeatureIntegration` expects a dict of the side outputs {sorted(self.strides)}. "
                f"Received: {sorted(input_shape)}"
            )
        for name, blocks in self.blocks.items():
            shape = input_shape[name]
            for block in blocks:
                block.build(shape)
                shape = block.compute_output_shape(shape)

    def call(self, side_outputs, training=None):
        results = []
        for name, blocks in self.blocks.items():
            x = side_outputs[name]
            size = [length * self.strides[name] // self.stride for length in x.shape[1:3]]
            for block in blocks:
                x = block(x, training=training)
            if self.strides[name] > self.stride:
                x = ops.image.resize(x, size, interpolation="bilinear")
            results.append(x)
        return ops.concatenate(results, axis=-1)

    def compute_output_shape(self, input_shape):
        name = next(iter(self.blocks))
        batch, height, width, _ = input_shape[name]
        height, width = (length * self.strides[name] // self.stride for length in (height, width))
        return (batch, height, width, self.filters * len(self.blocks))

    def get_config(self):
        return {
            **super().get_config(),
            "strides": dict(self.strides),
            "filters": self.filters,
            "stride": self.stride,
            "separable": self.separable,
            "normalization": self.normalization,
        }
