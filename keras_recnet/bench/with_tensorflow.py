"""SavedModels and matrix products in TensorFlow. A burst is a single batch or group."""

import numpy as np

from keras_recnet.bench import flops
from keras_recnet.bench.candidates import Candidate
from keras_recnet.bench.networks import DECODE, ENCODE, MAP, STEP, GroupNetwork, Network, noise
from keras_recnet.bench.with_keras import limit_tensorflow
from keras_recnet.errors import ConfigError
from keras_recnet.inference.group_stream import PartsEngine

SERVING = "serving_default"


class SavedModel(Network):
    """The signature `serving_default` of a SavedModel, on images of the network's input size."""

    def __init__(self, candidate: Candidate, threads: int):
        self._loaded, facts = _load(candidate, threads)
        if SERVING not in self._loaded.signatures:
            raise ConfigError(f"{candidate.source}: no signature {SERVING}. Received: {_names(self._loaded)}")
        self._serve = self._loaded.signatures[SERVING]
        ((self._name, self._spec),) = self._serve.structured_input_signature[1].items()
        shape = (1, *_fixed_size(self._spec.shape[1:3], candidate), 3)
        image = noise(shape, self._spec.dtype.as_numpy_dtype)
        super().__init__({MAP: lambda: self._run(image)}, input_shape=shape, **facts)

    def burst(self, images):
        batch_size = self._spec.shape[0] or images
        batch = noise((batch_size, *self.input_shape[1:]), self._spec.dtype.as_numpy_dtype)
        for _ in range(-(-images // batch_size)):
            self._run(batch)

    def operations(self):
        return {MAP: flops.count_function(self._serve, **{self._name: (self.input_shape, self._spec.dtype)})}

    def _run(self, images):
        return {name: value.numpy() for name, value in _call(self._serve, {self._name: images}).items()}


class SavedModelGroups(GroupNetwork):
    """The signatures `encode`, `step` and `decode` of a SavedModel. A burst calls `group` if it exists."""

    def __init__(self, candidate: Candidate, threads: int):
        self._loaded, facts = _load(candidate, threads)
        if not {ENCODE, DECODE} <= set(self._loaded.signatures):
            raise ConfigError(
                f"{candidate.source}: a co-saliency network must have the signatures `encode` and `decode`. "
                f"Received: {_names(self._loaded)}"
            )
        super().__init__(_Signatures(self._loaded.signatures, candidate), **facts)

    def burst(self, images):
        signature = self._loaded.signatures.get("group")
        if signature is None:
            self.run_group(images)
            return
        group = noise((1, images, *self.input_shape[1:]))
        _call(signature, {"images": group, "mask": np.ones((1, images), bool)})["saliency"].numpy()

    def operations(self):
        counts = {}
        for part in (ENCODE, STEP, DECODE):
            if part in self.parts:
                function = self._loaded.signatures[part]
                inputs = {"image": np.zeros(self.input_shape)} if part == ENCODE else {**self.features, **self.state}
                specs = function.structured_input_signature[1]
                counts[part] = flops.count_function(
                    function, **{name: (inputs[name].shape, spec.dtype) for name, spec in specs.items()}
                )
        return self.with_group(counts)


class MatrixProduct(Network):
    """The product of two square float32 matrices, an upper bound for the speed of the processor."""

    def __init__(self, candidate: Candidate, threads: int):
        limit_tensorflow(threads)
        import tensorflow as tf

        self._side = int(candidate.source)
        left, right = tf.random.stateless_normal((2, self._side, self._side), (0, 0))
        super().__init__(
            # fetching one number waits for the product, which a GPU computes asynchronously
            {MAP: lambda: tf.matmul(left, right)[0, 0].numpy()},
            input_shape=(self._side, self._side),
            **_facts(threads),
        )

    def operations(self):
        return {MAP: 2 * self._side**3}


class _Signatures(PartsEngine):
    """The parts of a SavedModel."""

    def __init__(self, signatures, candidate):
        self._signatures = signatures
        image = signatures[ENCODE].structured_input_signature[1]["image"]
        self.size = _fixed_size(image.shape[1:3], candidate)
        inputs, state = {}, ()
        if STEP in signatures:
            inputs, state = signatures[STEP].structured_input_signature[1], signatures[STEP].structured_outputs
        shapes = {name: (1, *spec.shape[1:]) for name, spec in inputs.items()}
        self._set_parts(signatures[DECODE].structured_input_signature[1], shapes, state)

    def encode(self, rgb):
        return self._run(ENCODE, {"image": rgb[None].astype(np.float32)})

    def _run(self, part, tensors):
        return {key: value.numpy() for key, value in _call(self._signatures[part], tensors).items()}


def _load(candidate, threads):
    limit_tensorflow(threads)
    import tensorflow as tf

    try:
        return tf.saved_model.load(candidate.source), _facts(threads)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ConfigError(f"{candidate.source}: not a SavedModel that TensorFlow can load ({error}).") from error


def _facts(threads):
    import tensorflow as tf

    devices = [device.name.removeprefix("/physical_device:") for device in tf.config.list_physical_devices()]
    return {"device": devices[-1], "threads": threads, "packages": ("tensorflow",)}


def _call(signature, inputs):
    import tensorflow as tf

    return signature(**{name: tf.constant(value) for name, value in inputs.items()})


def _fixed_size(size, candidate):
    """Return the height and width of a signature, or of the candidate if the signature accepts any size."""
    if None not in size:
        return tuple(size)
    if candidate.size is None:
        raise ConfigError(f"{candidate.source}: accepts any image size. Set the input size of the network with --size.")
    return candidate.size


def _names(loaded):
    return ", ".join(sorted(loaded.signatures)) or "none"
