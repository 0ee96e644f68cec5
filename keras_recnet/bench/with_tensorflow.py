"""SavedModels, and the product of two matrices, in TensorFlow. A burst of pictures is one batch, or one group."""

import numpy as np

from keras_recnet.bench import flops
from keras_recnet.bench.candidates import Contestant
from keras_recnet.bench.networks import DECODE, ENCODE, MAP, STEP, GroupNetwork, Network, noise
from keras_recnet.bench.with_keras import limit_tensorflow
from keras_recnet.errors import ConfigError

SERVING = "serving_default"


class SavedModel(Network):
    """The signature `serving_default` of a SavedModel, on pictures of the network's size."""

    def __init__(self, contestant: Contestant, threads: int):
        self._loaded, facts = _load(contestant, threads)
        if SERVING not in self._loaded.signatures:
            raise ConfigError(f"{contestant.source}: has no signature {SERVING}. It has: {_names(self._loaded)}.")
        self._serve = self._loaded.signatures[SERVING]
        ((self._name, self._spec),) = self._serve.structured_input_signature[1].items()
        shape = (1, *_closed(self._spec.shape[1:3], contestant), 3)
        picture = noise(shape, self._spec.dtype.as_numpy_dtype)
        super().__init__({MAP: lambda: self._run(picture)}, input_shape=shape, **facts)

    def burst(self, pictures):
        batch = self._spec.shape[0] or pictures
        images = noise((batch, *self.input_shape[1:]), self._spec.dtype.as_numpy_dtype)
        for _ in range(-(-pictures // batch)):
            self._run(images)

    def operations(self):
        return {MAP: flops.of_function(self._serve, **{self._name: (self.input_shape, self._spec.dtype)})}

    def _run(self, images):
        return {name: value.numpy() for name, value in _call(self._serve, {self._name: images}).items()}


class SavedModelGroups(GroupNetwork):
    """The signatures encode, step and decode of a SavedModel; a burst is one call of `group`, if there is one."""

    def __init__(self, contestant: Contestant, threads: int):
        self._loaded, facts = _load(contestant, threads)
        if not {ENCODE, DECODE} <= set(self._loaded.signatures):
            raise ConfigError(
                f"{contestant.source}: has not the signatures encode and decode of a network of groups. "
                f"It has: {_names(self._loaded)}."
            )
        super().__init__(_Signatures(self._loaded.signatures, contestant), **facts)

    def burst(self, pictures):
        group = self._loaded.signatures.get("group")
        if group is None:
            features = [self.encode() for _ in range(pictures)]
            state = None
            for of_image in features if self.engine.has_state else ():
                state = self.engine.advance(of_image["x"], state)
            for of_image in features:
                self.engine.decode(of_image, state)
            return
        images = noise((1, pictures, *self.input_shape[1:]))
        _call(group, {"images": images, "mask": np.ones((1, pictures), bool)})["saliency"].numpy()

    def operations(self):
        counts = {}
        for part in (ENCODE, STEP, DECODE):
            if part in self.parts:
                function = self._loaded.signatures[part]
                given = {"image": np.zeros(self.input_shape)} if part == ENCODE else {**self.features}
                given["state"] = self.state
                specs = function.structured_input_signature[1]
                counts[part] = flops.of_function(
                    function, **{name: (given[name].shape, spec.dtype) for name, spec in specs.items()}
                )
        return self.with_group(counts)


class Product(Network):
    """The product of two square float32 matrices, what a processor does fastest."""

    def __init__(self, contestant: Contestant, threads: int):
        limit_tensorflow(threads)
        import tensorflow as tf

        self._side = int(contestant.source)
        left, right = tf.random.stateless_normal((2, self._side, self._side), (0, 0))
        super().__init__(
            # one number is fetched, so that the clock waits for the product also where a GPU works beside Python
            {MAP: lambda: tf.matmul(left, right)[0, 0].numpy()},
            input_shape=(self._side, self._side),
            **_facts(threads),
        )

    def operations(self):
        return {MAP: 2 * self._side**3}


class _Signatures:
    """The parts of a SavedModel as a `group_stream.GroupEngine`."""

    def __init__(self, signatures, contestant):
        self._signatures = signatures
        self.has_state = STEP in signatures
        image = signatures[ENCODE].structured_input_signature[1]["image"]
        self.size = _closed(image.shape[1:3], contestant)
        if self.has_state:
            self._channels = signatures[STEP].structured_input_signature[1]["state"].shape[-1]

    def encode(self, rgb):
        return self._call(ENCODE, image=rgb[None].astype(np.float32))

    def advance(self, x, state):
        if state is None:  # the first image's X, and zeros where the state has more channels
            state = np.zeros((*x.shape[:-1], self._channels), np.float32)
            state[..., : x.shape[-1]] = x
        return self._call(STEP, x=x, state=state)["state"]

    def decode(self, features, state):
        group = {} if state is None else {"state": state}
        return self._call(DECODE, **features, **group)["saliency"][0, ..., 0]

    def _call(self, name, **inputs):
        return {key: value.numpy() for key, value in _call(self._signatures[name], inputs).items()}


def _load(contestant, threads):
    limit_tensorflow(threads)
    import tensorflow as tf

    try:
        return tf.saved_model.load(contestant.source), _facts(threads)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ConfigError(f"{contestant.source}: not a SavedModel that TensorFlow loads ({error}).") from error


def _facts(threads):
    import tensorflow as tf

    devices = [device.name.removeprefix("/physical_device:") for device in tf.config.list_physical_devices()]
    return {"device": devices[-1], "threads": threads, "packages": ("tensorflow",)}


def _call(signature, inputs):
    import tensorflow as tf

    return signature(**{name: tf.constant(value) for name, value in inputs.items()})


def _closed(size, contestant):
    """Height and width: those of a signature, or where it leaves them open the contestant's."""
    if None not in size:
        return tuple(size)
    if contestant.size is None:
        raise ConfigError(f"{contestant.source}: takes pictures of any size, so give --size, the network's own.")
    return contestant.size


def _names(loaded):
    return ", ".join(sorted(loaded.signatures)) or "none"
