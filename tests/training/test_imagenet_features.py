import io

import keras
import numpy as np

from keras_recnet import backbones
from keras_recnet.models import RecNet
from keras_recnet.training.imagenet_features import keep_imagenet_features
from keras_recnet.training.run import train


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def small_recnet():
    keras.utils.set_random_seed(0)
    return RecNet("efficientnet_lite0", 64, attention=None, integration_filters=4, head_filters=4, separable=True)


def test_the_loss_compares_the_coarsest_features_with_those_of_the_imagenet_weights():
    x = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    model = small_recnet()
    train_model = keep_imagenet_features(model, 2.0)
    np.testing.assert_allclose(numpy(train_model(x)), numpy(model(x)), atol=1e-5)
    kernel = numpy(train_model.get_layer("imagenet_distillation").kernel)
    features = numpy(backbones.efficientnet_lite0(64)(x)["P5"])
    predicted = features @ kernel  # an untrained model has the teacher's features
    cosines = (predicted * features).sum(-1) / np.linalg.norm(predicted, axis=-1) / np.linalg.norm(features, axis=-1)
    assert abs(float(train_model.losses[0]) - 2.0 * (1 - cosines.mean())) < 1e-3


def test_only_the_model_and_the_linear_map_are_trained():
    model = small_recnet()
    train_model = keep_imagenet_features(model, 1.0)
    own = {id(weight) for weight in model.trainable_weights}
    (kernel,) = (weight for weight in train_model.trainable_weights if id(weight) not in own)
    assert kernel.path.endswith("distillation_kernel")
    assert len(train_model.trainable_weights) == len(own) + 1


def test_a_run_resumes_with_the_same_weights(tmp_path):
    def run(folder, *more, resume=False):
        overrides = [
            *("model.backbone=efficientnet_lite0", "model.image_size=64", "loss.imagenet_weight=1", "steps=4"),
            *("epochs=null", "batch_size=4", "samples=0", "checkpoint.steps=2", f"output={tmp_path / folder}", *more),
        ]
        train("smoke", overrides, resume, io.StringIO())
        return RecNet.from_preset(tmp_path / folder / "preset").get_weights()

    whole = run("whole")
    run("parts")
    for path in (tmp_path / "parts/checkpoints").glob("step-00000004*"):
        path.unlink()
    assert (tmp_path / "parts/checkpoints/step-00000002.npz").is_file()
    for a, b in zip(whole, run("parts", resume=True), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
