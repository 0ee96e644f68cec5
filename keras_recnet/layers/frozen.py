"""A pretrained layer inside of another network."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class Pretrained(keras.layers.Wrapper):
    """Runs a layer or model as it was trained: with the stored statistics of its batch normalisation, in training too.

    Images of one group in a batch look alike, so their statistics are not those that the moving averages hold, and a
    network that normalises with them in training fails in prediction.

    Args:
        layer: the layer or model.
        freeze: also do not train it: its weights are not trainable and no gradient passes through it.
        **kwargs: passed to `keras.layers.Wrapper`.

    Input shape:
        That of `layer`.

    Output shape:
        That of `layer`.

    Example:
        >>> backbone = keras_recnet.backbones.build("efficientnet_lite0", 224)
        >>> features = Pretrained(backbone, freeze=True)(keras.ops.zeros((1, 224, 224, 3)))
    """

    def __init__(self, layer, *, freeze=False, **kwargs):
        super().__init__(layer, **kwargs)
        self.freeze = freeze
        if freeze:
            layer.trainable = False

    def call(self, inputs):
        outputs = self.layer(inputs, training=False)
        return keras.tree.map_structure(ops.stop_gradient, outputs) if self.freeze else outputs

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "freeze": self.freeze}
