"""Distillation of a teacher's features in training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_recnet")
class FeatureDistillation(keras.layers.Layer):
    """Returns a model's outputs unchanged, and adds a loss that makes its features predict a teacher's.

    The loss is `weight · (1 − mean_p cos(W s_p, t_p))`, where s_p and t_p are the features of the model and of the
    teacher at position p. The kernel W is used in training only.

    Args:
        weight: weight of the loss.
        **kwargs: passed to `keras.layers.Layer`.

    Input shape:
        A list: outputs of any shape; features of the model, `(batch, height, width, channels)`; features of the
        teacher, of the same height and width.

    Output shape:
        That of the outputs.

    Reference:
        Ours, with linear W and the cosine; regression of a teacher's features: Romero et al., FitNets: Hints for Thin
        Deep Nets, ICLR 2015.
    """

    def __init__(self, weight=1.0, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.weight = weight

    def build(self, input_shape):
        _, features, teacher = input_shape
        self.kernel = self.add_weight(
            shape=(features[-1], teacher[-1]), initializer="glorot_uniform", name="distillation_kernel"
        )

    def call(self, inputs):
        outputs, features, teacher = inputs
        loss = keras.losses.cosine_similarity(ops.stop_gradient(teacher), ops.matmul(features, self.kernel))
        self.add_loss(self.weight * (1.0 + ops.mean(loss)))
        return outputs

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}
