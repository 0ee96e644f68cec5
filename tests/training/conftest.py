"""Fixtures of the training tests."""

import keras
import numpy as np
import pytest

from keras_recnet import backbones
from keras_recnet.backbones._common import side_outputs
from keras_recnet.training import synthetic


def tiny_backbone(image_size, *, weights=None, freeze_batch_normalization=True):
    """A backbone of five strided convolutions, which compiles in a few seconds."""
    maps, strides = {}, {}
    inputs = keras.Input((*image_size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    for level in range(1, 6):
        x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu", name=f"stage{level}")(x)
        maps[f"P{level}"], strides[f"P{level}"] = x, 2**level
    return side_outputs("tiny", inputs, maps, strides, freeze_batch_normalization)


@pytest.fixture
def tiny(monkeypatch):
    """Registers the backbone "tiny", and returns overrides for a fast `smoke` training with it."""
    monkeypatch.setitem(backbones.BACKBONES, "tiny", tiny_backbone)
    fast = ["deterministic=false", "preset.litert=false", "data.augment=null", "samples=0", "tensorboard=false"]
    one_branch = [
        "model.branches=foreground",
        "model.attention=null",
        "model.head_stride=8",
        "loss.cooperative_weight=0.0",
    ]
    return ["init=random", "model.backbone=tiny", *one_branch, *fast]


@pytest.fixture
def photos(tmp_path):
    """A folder with 20 synthetic images in images/ and their masks in masks/."""
    synthetic.write(tmp_path / "photos", 20, seed=3)
    return tmp_path / "photos"


@pytest.fixture
def small_model():
    """A compiled model with batch normalization, and a batch for it."""
    from keras_recnet.training import ema

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile(ema.AdamW(0.01, use_ema=True, ema_momentum=0.9), "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(8, 3)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")
