"""A pretrained layer that keeps its batch normalization statistics."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class FrozenStatistics(keras.layers.Wrapper):
    """Runs a pretrained layer or model in inference mode, even during training.

    Batch normalization then uses its stored statistics. The images of a group are similar, so the statistics of a batch
    of groups differ from the moving averages, and a network trained with batch statistics fails in prediction.

    Args:
        layer: the layer or model.
        freeze: also freeze the weights of `layer` and stop gradients, including those to the inputs.
        **kwargs: passed to `keras.layers.Wrapper`.

    Input shape:
        Same as for `layer`.

    Output shape:
        Same as for `layer`.

    Example:
        >>> backbone = keras_recnet.backbones.build("efficientnet_lite0", 224)
        >>> features = FrozenStatistics(backbone, freeze=True)(keras.ops.zeros((1, 224, 224, 3)))
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
