"""Correction of RecNet's map by the group."""

import keras
from keras import ops

from keras_recnet.layers.fusion import fuse

EPSILON = 1e-4  # smallest and largest probability, so that the logit is finite


@keras.saving.register_keras_serializable(package="keras_recnet")
class GroupCorrection(keras.layers.Layer):
    """Changes the logit L of RecNet's map at every pixel: `L + (1 - 1/N) (g L + r)` (ours).

    The gate g, in -1…1, suppresses or strengthens what is salient in the image alone; the residual r adds what is not.
    The factor `1 - 1/N` for a group of N images makes the map of a single image equal RecNet's, to within 1e-4. Always
    computed in float32.

    Args:
        fusion: fusion of RecNet's branches, see `Fusion`.
        upsampling: the branches are upsampled bilinearly by this factor before they are fused, like in RecNet.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list: logits of the branches, `(batch, height, width, 1 or 2)`, see `Fusion`; logit of (g + 1) / 2 and r,
        `(batch, h, w, 2)`, upsampled to the size of the output; N, `(batch, 1)`.

    Output shape:
        Logits, `(batch, height * upsampling, width * upsampling, 1)`.
    """

    def __init__(self, fusion, upsampling=1, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.fusion = fusion
        self.upsampling = upsampling

    def call(self, inputs):
        branches, correction, count = inputs
        size = [side * self.upsampling for side in branches.shape[1:3]]
        if self.upsampling > 1:
            branches = ops.image.resize(branches, size, interpolation="bilinear")
        saliency = fuse(self.fusion, branches)
        # not clipped to 1 - EPSILON, which is 1 in the float16 files of LiteRT
        logit = ops.log(ops.maximum(saliency, EPSILON)) - ops.log(ops.maximum(1.0 - saliency, EPSILON))
        gate, residual = ops.split(ops.image.resize(correction, size, interpolation="bilinear"), 2, axis=-1)
        # a group without images, in padding, has the weight of a group of one
        weight = ops.reshape(1.0 - 1.0 / ops.maximum(count, 1.0), (-1, 1, 1, 1))
        return logit + weight * ((2.0 * ops.sigmoid(gate) - 1.0) * logit + residual)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape[0]
        return batch, height * self.upsampling, width * self.upsampling, 1

    def get_config(self):
        return {**super().get_config(), "fusion": self.fusion, "upsampling": self.upsampling}
