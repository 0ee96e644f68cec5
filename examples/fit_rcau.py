"""Train an edge RCAUNet with `model.compile` and `model.fit`, starting from the shipped `recnet_lite0`.

    pip install ".[tensorflow]"
    python examples/fit_rcau.py GROUPS    # GROUPS/images/GROUP/*.jpg and GROUPS/masks/GROUP/*.png
    keras-recnet cosal PHOTOS -o maps --preset my_group_preset

`keras-recnet train rcau_lite0` does the same with logs, checkpoints and resume, and computes the features of the frozen
layers only once.
"""

import sys

import keras

from keras_recnet import RCAUNet, losses, metrics, pipelines

IMAGE_SIZE = 224
EPOCHS = 10


def main(root):
    training, held_out = pipelines.split_groups(pipelines.find_groups(root), share=0.9, by="groups")
    source = pipelines.ImageSource(IMAGE_SIZE, pipelines.Augment())
    train = pipelines.SaliencyGroups(training, source, batch_size=2, images_per_group=6, distractors=(0, 2))
    source = pipelines.ImageSource(IMAGE_SIZE, cache=None)
    valid = pipelines.SaliencyGroups(held_out, source, batch_size=1, drop_remainder=False)

    model = RCAUNet.from_recnet("recnet_lite0", IMAGE_SIZE)
    optimizer = keras.optimizers.AdamW(1e-3, global_clipnorm=5.0)
    scores = [metrics.SaliencyMAE(), metrics.SaliencyFMeasure()]
    model.compile(optimizer, losses.CoSaliencyLoss(dice_weight=0.5), weighted_metrics=scores)
    model.fit(
        train.training(EPOCHS), epochs=EPOCHS, steps_per_epoch=train.steps_per_epoch, validation_data=valid.evaluation()
    )
    model.save_to_preset("my_group_preset")


if __name__ == "__main__":
    main(*sys.argv[1:])
