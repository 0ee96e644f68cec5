import keras
import pytest
from keras import layers

from keras_recnet.backbones import BACKBONES
from keras_recnet.backbones._common import image_shape, side_outputs

STRIDES = {"P1": 2, "P2": 4, "P3": 8, "P4": 16, "P5": 32}


def tiny(image_size, *, weights=None, freeze_batch_normalization=True):
    """A backbone that is built in no time: a strided convolution with batch normalisation for each side-output."""
    image = keras.Input(image_shape(image_size, 32), name="image")
    x, outputs = layers.Rescaling(1 / 128, offset=-1)(image), {}
    for index, name in enumerate(STRIDES):
        x = layers.Conv2D(4 + index, 3, 2, padding="same", use_bias=False, name=f"{name}_conv")(x)
        outputs[name] = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(outputs[name])
    return side_outputs("tiny", image, outputs, STRIDES, freeze_batch_normalization)


@pytest.fixture(scope="session", autouse=True)
def tiny_backbone():
    """The backbone `"tiny"`, as a user would add one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", tiny)
        yield
