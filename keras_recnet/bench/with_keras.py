"""Presets in Keras, on the backend that Keras is set to. A burst of pictures is one batch, or one group."""

import numpy as np

from keras_recnet import presets
from keras_recnet.bench import flops
from keras_recnet.bench.candidates import Contestant
from keras_recnet.bench.networks import DECODE, ENCODE, MAP, STEP, GroupNetwork, Network, noise
from keras_recnet.errors import MissingExtraError
from keras_recnet.inference.engines import keras_device, keras_model
from keras_recnet.inference.group_engines import KerasGroupEngine

POLICIES = {"float32": "float32", "float16": "mixed_float16"}


class Keras(Network):
    """The inference model of a preset."""

    def __init__(self, contestant: Contestant, threads: int):
        facts = _prepare(contestant, threads)
        model = keras_model(presets.find(contestant.source), contestant.size)
        self._inference = model.to_inference()
        picture = noise((1, *model.image_size, 3))
        super().__init__(
            {MAP: lambda: self._inference.predict_on_batch(picture)},
            input_shape=picture.shape,
            device=keras_device(),
            **facts,
        )

    def burst(self, pictures):
        self._inference.predict_on_batch(noise((pictures, *self.input_shape[1:])))

    def operations(self):
        return {MAP: _operations(self, self._inference)}


class KerasGroups(GroupNetwork):
    """The parts of a preset of groups."""

    def __init__(self, contestant: Contestant, threads: int):
        facts = _prepare(contestant, threads)
        engine = KerasGroupEngine(presets.find(contestant.source), size=contestant.size)
        self._inference = engine.model.to_inference()
        super().__init__(engine, device=engine.device, **facts)

    def burst(self, pictures):
        images = noise((1, pictures, *self.input_shape[1:]))
        self._inference.predict_on_batch({"images": images, "mask": np.ones((1, pictures), bool)})

    def operations(self):
        model = self.engine.model
        models = {ENCODE: model.encoder, STEP: model.step, DECODE: model.decoder}
        return self.with_group({name: _operations(self, part) for name, part in models.items() if name in self.parts})


def _operations(network, model):
    if "tensorflow" not in network.packages:  # whose graphs alone are counted
        return None
    if not isinstance(model.input, dict):
        spec = ((1, *model.input.shape[1:]), "float32")
        return flops.of_function(lambda image: model(image, training=False), image=spec)
    specs = {name: ((1, *tensor.shape[1:]), "float32") for name, tensor in model.input.items()}
    return flops.of_function(lambda **given: model(given, training=False), **specs)


def _prepare(contestant, threads):
    """Sets the threads and the precision, and gives what a report says of both."""
    try:
        import keras
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{contestant}: needs Keras and one of its backends: pip install "keras-recnet[tensorflow]". '
            f"Missing: {error.name}"
        ) from error
    backend = keras.backend.backend()
    if backend == "tensorflow":
        limit_tensorflow(threads)
    elif backend == "torch":
        import torch

        torch.set_num_threads(threads)
    else:  # JAX knows no switch for it
        threads = None
    keras.config.set_dtype_policy(POLICIES[contestant.precision])
    return {"threads": threads, "packages": ("keras", backend)}


def limit_tensorflow(threads: int) -> None:
    """Sets TensorFlow's threads, which it takes before its first operation only."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
