"""Benchmark presets in Keras, on its configured backend. A burst is a single batch or group."""

import numpy as np

from keras_recnet import presets
from keras_recnet.bench import flops
from keras_recnet.bench.candidates import Candidate
from keras_recnet.bench.networks import DECODE, ENCODE, MAP, STEP, GroupNetwork, Network, noise
from keras_recnet.errors import MissingExtraError
from keras_recnet.inference.engines import keras_device, keras_model
from keras_recnet.inference.group_engines import KerasGroupEngine

POLICIES = {"float32": "float32", "float16": "mixed_float16"}


class Keras(Network):
    """The inference model of a saliency preset."""

    def __init__(self, candidate: Candidate, threads: int):
        facts = _configure(candidate, threads)
        model = keras_model(presets.find(candidate.source), candidate.size)
        self._inference = model.to_inference()
        image = noise((1, *model.image_size, 3))
        super().__init__(
            {MAP: lambda: self._inference.predict_on_batch(image)},
            input_shape=image.shape,
            device=keras_device(),
            **facts,
        )

    def burst(self, images):
        self._inference.predict_on_batch(noise((images, *self.input_shape[1:])))

    def operations(self):
        return {MAP: _operations(self, self._inference)}


class KerasGroups(GroupNetwork):
    """The parts of a co-saliency preset."""

    def __init__(self, candidate: Candidate, threads: int):
        facts = _configure(candidate, threads)
        engine = KerasGroupEngine(presets.find(candidate.source), size=candidate.size)
        self._inference = engine.model.to_inference()
        super().__init__(engine, device=engine.device, **facts)

    def burst(self, images):
        group = noise((1, images, *self.input_shape[1:]))
        self._inference.predict_on_batch({"images": group, "mask": np.ones((1, images), bool)})

    def operations(self):
        model = self.engine.model
        models = {ENCODE: model.encoder, STEP: model.step, DECODE: model.decoder}
        return self.with_group({name: _operations(self, part) for name, part in models.items() if name in self.parts})


def _operations(network, model):
    if "tensorflow" not in network.packages:  # operations are counted in TensorFlow graphs
        return None
    if not isinstance(model.input, dict):
        spec = ((1, *model.input.shape[1:]), "float32")
        return flops.count_function(lambda image: model(image, training=False), image=spec)
    specs = {name: ((1, *tensor.shape[1:]), "float32") for name, tensor in model.input.items()}
    return flops.count_function(lambda **inputs: model(inputs, training=False), **specs)


def _configure(candidate, threads):
    """Set the number of threads and the precision, and return what is known about them."""
    try:
        import keras
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{candidate}: needs Keras and one of its backends: pip install "keras-recnet[tensorflow]". '
            f"Missing: {error.name}"
        ) from error
    backend = keras.backend.backend()
    if backend == "tensorflow":
        limit_tensorflow(threads)
    elif backend == "torch":
        import torch

        torch.set_num_threads(threads)
    else:  # JAX has no setting for the number of threads
        threads = None
    keras.config.set_dtype_policy(POLICIES[candidate.precision])
    return {"threads": threads, "packages": ("keras", backend)}


def limit_tensorflow(threads: int) -> None:
    """Set the number of threads of TensorFlow; this must precede its first operation."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
