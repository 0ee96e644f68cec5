"""Measure how well a preset's features tell kinds of objects apart.

    python benchmarks/kinds.py DATA/DUTS-TR recnet_lite0 rcau_lite0

The features are those at stride 32 of a `RecNet`, or the embedding of the edge version of an `RCAUNet`. Each object of
the validation groups is the mean of the features in its mask. Its cosine with the mean of the other objects of a group
should be higher for the group's own objects than for those of other groups: the script prints the area under the ROC
curve, and the share of the others' cosines above the lowest 5 % of the own ones.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_recnet import pipelines
from keras_recnet.imaging.resizing import resize
from keras_recnet.models import RecNet, from_preset

GROUPS = Path(__file__).parent / "groups" / "duts_tr.csv"
BATCH_SIZE = 16


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of DUTS-TR")
    parser.add_argument("presets", nargs="+", help="names or folders of presets")
    arguments = parser.parse_args()
    groups = pipelines.read_groups(GROUPS, arguments.root / "images", arguments.root / "masks", split="validation")
    names = np.array([group.name for group in groups for _ in group.own])
    pairs = [pair for group in groups for pair in group.own]
    for preset in arguments.presets:
        area, taken = score(objects(from_preset(preset), pairs), names)
        print(f"{preset}: area under the ROC curve {area:.3f}, taken for the group {taken:.1%}")


def objects(model, pairs):
    """Return the mean features of each object, `(pairs, channels)`."""
    if isinstance(model, RecNet):
        features = keras.Model(model.input, list(model.side_outputs.values())[-1])
    else:
        features = keras.Model(model.encoder.input, model.encoder.output["embedding"])
    vectors = []
    for start in range(0, len(pairs), BATCH_SIZE):
        read = [pipelines.read_pair(pair) for pair in pairs[start : start + BATCH_SIZE]]
        images = np.stack([resize(image, model.image_size) for image, _ in read]).astype("float32")
        for values, (_, mask) in zip(features.predict_on_batch(images), read, strict=True):
            weights = resize(mask, values.shape[:2])[..., None] / 255 + 1e-4
            vectors.append((values * weights).sum((0, 1)) / weights.sum())
    return np.stack(vectors)


def score(vectors, names):
    """Return the area under the ROC curve and the share of objects of other groups that are taken for the group's."""
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    own_cosines, other_cosines = [], []
    for name in sorted(set(names)):
        own = names == name
        total = vectors[own].sum(0)
        others = total - own[:, None] * vectors  # without the object itself
        cosines = (vectors * others).sum(1) / np.linalg.norm(others, axis=1)
        own_cosines += list(cosines[own])
        other_cosines += list(cosines[~own])
    own_cosines, other_cosines = np.array(own_cosines), np.array(other_cosines)
    area = (own_cosines[:, None] > other_cosines).mean()
    return area, (other_cosines > np.quantile(own_cosines, 0.05)).mean()


if __name__ == "__main__":
    main()
