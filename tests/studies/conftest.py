"""Fixtures of the tests of studies."""

import pytest

from keras_recnet.training import synthetic

# trains for a few seconds; checkpoints are compared bit by bit
SMALL = [
    "init=random",
    "model.backbone=tiny",
    "data.synthetic=16",
    "data.augment=null",
    "batch_size=3",
    "optimizer.warmup_steps=0",
    "checkpoint.steps=1",
    "samples=0",
    "tensorboard=false",
]


@pytest.fixture
def scored(tmp_path):
    """Options of `keras-recnet study` for a dataset of six synthetic images at the size of the network."""
    images, masks = synthetic.write(tmp_path / "scored", 6, seed=9, side=64)
    return ["--images", str(images), "--masks", str(masks)]
