"""Train an edge RecNet with `model.compile` and `model.fit`.

    pip install ".[tensorflow]"
    python examples/fit_recnet.py DUTS-TR    # DUTS-TR/images/*.jpg and DUTS-TR/masks/*.png
    keras-recnet predict PHOTOS -o maps --preset my_preset

A tenth of the pairs is used for validation. `keras-recnet train` does the same with logs, checkpoints, resume and EMA.
"""

import sys
from pathlib import Path

import keras

import keras_recnet
from keras_recnet import losses, metrics, optimizers, pipelines

EPOCHS, SIZE, BATCH = 3, 224, 16

folder = Path(sys.argv[1])
pairs = pipelines.find_pairs(folder / "images", folder / "masks")
training = pipelines.SaliencyPairs(pairs[len(pairs) // 10 :], SIZE, BATCH, augment=pipelines.Augment())
validation = pipelines.SaliencyPairs(pairs[: len(pairs) // 10], SIZE, BATCH, drop_remainder=False)

edge = {"separable": True, "normalization": "batch", "head_stride": 4, "head_filters": 64, "integration_filters": 64}
attention = {"key_channels": 64, "attention_normalize": "each", "scale_scores": True}
model = keras_recnet.RecNet("efficientnet_lite0", SIZE, fusion="average", **edge, **attention)

steps = EPOCHS * training.steps_per_epoch
rates = [keras.optimizers.AdamW(optimizers.warmup_cosine(rate, steps, steps // 10)) for rate in (2e-4, 2e-3)]
model.compile(
    optimizers.two_rates(model, *rates),
    losses.SaliencyLoss(cooperative_weight=0.1, cooperative_terms="match", dice_weight=0.5),
    metrics=[metrics.SaliencyMAE(fusion="average")],
)
batches = training.training(EPOCHS)
model.fit(batches, epochs=EPOCHS, steps_per_epoch=training.steps_per_epoch, validation_data=validation.evaluation())
model.save_to_preset("my_preset")
