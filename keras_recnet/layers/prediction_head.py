"""The prediction head of a RecNet branch."""

import keras
from keras import ops

from keras_recnet.layers._convolution import convolution


@keras.saving.register_keras_serializable(package="keras_recnet")
class PredictionHead(keras.layers.Layer):
    """Computes the logits of one branch: two 3×3 convolutions with ReLU, then a 1×1 convolution to one channel.

    The edge version (ours) adds finer side outputs. Before each further 3×3 convolution, the features are
    resized bilinearly to the next finer side output and concatenated with its 1×1 convolution. The
    number of 3×3 convolutions is `max(2, 1 + finer)`.

    The last convolution is initialized from N(0, 0.01²) (ours; the paper does not state its initialization).

    Args:
        filters: channels of the 3×3 convolutions.
        finer: number of finer side outputs; 0 in the paper.
        separable: depthwise separable 3×3 convolutions (ours, for the edge version).
        normalization: None (the paper) or `"batch"`.
        **kwargs: passed to `keras.layers.Layer`.

    Call arguments:
        inputs: see below.
        return_features: also return the features after the first 3×3 convolution, `(batch, height, width, filters)`.

    Input shape:
        A list of `1 + finer` tensors: the features `(batch, height, width, channels)` and the side outputs, from coarse
        to fine.

    Output shape:
        Logits, `(batch, height, width, 1)` at the size of the finest input.

    Raises:
        ValueError: if the number of inputs is not `1 + finer`.

    Reference:
        RecNet paper, "Cooperative Supervision". Kernel sizes follow the paper's text; finer side outputs are ours.
    """

    def __init__(self, filters=128, *, finer=0, separable=False, normalization=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.finer = finer
        self.separable = separable
        self.normalization = normalization
        options = {"separable": separable, "normalization": normalization}
        self.convolutions = [convolution(filters, 3, **options, name=f"conv{i}") for i in range(max(2, 1 + finer))]
        self.laterals = [convolution(filters // 2, 1, **options, name=f"lateral{i}") for i in range(finer)]
        # Initial probabilities are close to 1/2, as with Caffe's Gaussian fillers. With larger initial weights,
        # training at the published learning rates, with a loss summed over pixels, diverges within five steps.
        initializer = keras.initializers.RandomNormal(stddev=0.01)
        self.logits = keras.layers.Conv2D(1, 1, kernel_initializer=initializer, name="logits")

    def build(self, input_shape):
        if len(input_shape) != 1 + self.finer:
            raise ValueError(f"`PredictionHead` expects {1 + self.finer} inputs. Received: input_shape={input_shape}")
        shape = tuple(input_shape[0])
        for index, block in enumerate(self.convolutions):
            if 0 < index <= self.finer:
                finer = tuple(input_shape[index])
                self.laterals[index - 1].build(finer)
                shape = (*finer[:-1], self.filters + self.filters // 2)
            block.build(shape)
            shape = (*shape[:-1], self.filters)
        self.logits.build(shape)

    def call(self, inputs, training=None, return_features=False):
        x = inputs[0]
        for index, block in enumerate(self.convolutions):
            if 0 < index <= self.finer:
                lateral = self.laterals[index - 1](inputs[index], training=training)
                x = ops.image.resize(x, lateral.shape[1:3], interpolation="bilinear")
                x = ops.concatenate([x, lateral], axis=-1)
            x = block(x, training=training)
            if index == 0:
                features = x
        logits = self.logits(x)
        return (logits, features) if return_features else logits

    def compute_output_shape(self, input_shape):
        return (*tuple(input_shape[-1])[:-1], 1)

    def compute_output_spec(self, inputs, training=None, return_features=False):
        logits = keras.KerasTensor(self.compute_output_shape([x.shape for x in inputs]), dtype=self.compute_dtype)
        features = keras.KerasTensor((*inputs[0].shape[:-1], self.filters), dtype=self.compute_dtype)
        return (logits, features) if return_features else logits

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "finer": self.finer,
            "separable": self.separable,
            "normalization": self.normalization,
        }
