"""Pretraining of the embedding of an RCAUNet's edge version: it learns the features of an ImageNet backbone."""

from collections.abc import Callable

import keras
import numpy as np

from keras_recnet.models import RCAUNet
from keras_recnet.training.data import ProgressLog
from keras_recnet.training.feature_cache import FeatureSource
from keras_recnet.training.imagenet_features import imagenet_features

BATCH_SIZE = 48
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-2
WARMUP = 0.1  # share of the steps


def pretrain_embedding(
    model: RCAUNet, source: FeatureSource, steps: int, seed: int, log: Callable[[str], object]
) -> None:
    """Train the embedding so that a linear map of it predicts the features of the backbone with ImageNet weights.

    A backbone that was trained for saliency has lost much of what tells kinds of objects apart, so groups alone teach
    the embedding slowly, and only the kinds that they contain. The loss is the negative cosine between the prediction
    and the features t_p at every position p: `-mean_p cos(W ē_p, t_p)`, where ē_p is the embedding averaged to the
    resolution of the features. W is discarded.

    Args:
        model: an edge version (`RCAUNet.from_recnet`). Only the layers of its embedding are trained.
        source: an open source; it keeps the ImageNet features of its images, too.
        steps: number of batches of 48 images.
        seed: seed of the order of the images and the initial W.
        log: called with lines about progress.

    Reference:
        Ours; regression of a teacher's features: Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015.
    """
    embedding = model.embedding
    targets = source.outputs_of(imagenet_features(model.backbone_name, model.image_size))
    height, width, channels = targets.shape[2:]
    pool = embedding.output.shape[1] // height, embedding.output.shape[2] // width
    x = keras.layers.AveragePooling2D(pool, strides=pool)(embedding.output)
    kernel = keras.layers.Dense(channels, use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed))
    student = keras.Model(embedding.input, kernel(x))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=LEARNING_RATE, warmup_steps=round(WARMUP * steps)
    )
    student.compile(
        keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY, global_clipnorm=5.0), keras.losses.CosineSimilarity()
    )
    progress = ProgressLog(log, "Training the embedding")
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: progress(batch + 1, steps))
    batches = _Batches(source, list(embedding.input), targets, steps, seed)
    losses = student.fit(batches, shuffle=False, verbose=0, callbacks=[callback]).history["loss"]
    log(f"Trained the embedding for {steps:,} steps: mean cosine {-losses[-1]:.3f} with the ImageNet features")


class _Batches(keras.utils.PyDataset):
    """Features of random images, and their ImageNet features."""

    def __init__(self, source, names, targets, steps, seed):
        super().__init__(workers=2, max_queue_size=4)
        self.source, self.names, self.targets, self.steps, self.seed = source, names, targets, steps, seed

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        random = np.random.default_rng([self.seed, index])
        pairs = self.source.pairs
        chosen = random.choice(len(pairs), min(BATCH_SIZE, len(pairs)), replace=False)
        views = self.source.draw(random, len(chosen))
        read = [self.source.read(pairs[row], view)[0] for row, view in zip(chosen, views, strict=True)]
        inputs = {name: np.stack([arrays[name] for arrays in read]).astype(np.float32) for name in self.names}
        return inputs, self.targets[views.astype(int), chosen].astype(np.float32)
