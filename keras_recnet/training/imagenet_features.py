"""Features of a backbone with ImageNet weights, and a training that keeps them."""

import keras

from keras_recnet import backbones
from keras_recnet.layers import FeatureDistillation
from keras_recnet.models import RecNet


def imagenet_features(backbone: str, image_size: tuple[int, int], **arguments) -> keras.Model:
    """Build a backbone with ImageNet weights, up to its coarsest side output.

    Args:
        backbone: name of the backbone.
        image_size: height and width of the images.
        **arguments: passed to `keras_recnet.backbones.build`.

    Returns:
        A frozen functional model from images `(batch, height, width, 3)`, RGB in 0…255, to features.

    Raises:
        WeightsError: if the weights cannot be loaded.
    """
    model = backbones.build(backbone, image_size, weights="imagenet", **arguments)
    features = keras.Model(model.input, model.output[_coarsest(model)], name="imagenet_features")
    features.trainable = False
    return features


def keep_imagenet_features(model: RecNet, weight: float) -> keras.Model:
    """Return a model for training that distills the features of the backbone with ImageNet weights.

    Trained for saliency alone, a backbone forgets how kinds of objects differ, which co-saliency networks need.

    Args:
        model: a RecNet. The returned model has the same inputs, outputs and weights.
        weight: weight of the loss, see `FeatureDistillation`.

    Raises:
        WeightsError: if the ImageNet weights cannot be loaded.
    """
    arguments = {} if model.output_stride is None else {"output_stride": model.output_stride}
    teacher = imagenet_features(model.backbone_name, model.image_size, **arguments)
    features = model.side_outputs[_coarsest(model.backbone)]
    distillation = FeatureDistillation(weight, name="imagenet_distillation")
    return keras.Model(model.input, distillation([model.output, features, teacher(model.input)]))


def _coarsest(backbone):
    return max(backbone.strides, key=backbone.strides.get)
