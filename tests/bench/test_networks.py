import keras
import numpy as np
import pytest

from keras_recnet.bench import networks, with_keras, with_onnx
from keras_recnet.bench.candidates import Candidate
from keras_recnet.errors import ConfigError, PresetError


@pytest.fixture(autouse=True)
def _keep_process_settings(monkeypatch):
    """Threads and precision are settings of a process. Each candidate has its own process, but tests share one."""
    for module in ("with_keras", "with_tensorflow"):
        monkeypatch.setattr(f"keras_recnet.bench.{module}.limit_tensorflow", lambda threads: None)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


def load(engine, source, precision="float32", takes_groups=False, size=(64, 64)):
    return networks.load(Candidate("tiny", engine, precision, str(source), size=size, takes_groups=takes_groups), 2)


@pytest.fixture(scope="module")
def saved_model(tiny_model, tmp_path_factory):
    """A SavedModel for images of any size."""
    import tensorflow as tf

    inference = tiny_model.to_inference()

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), name="images")])
    def serve(images):
        return {"saliency": inference(tf.image.resize(images, (64, 64)), training=False)}

    module, folder = tf.Module(), tmp_path_factory.mktemp("saved_model")
    module.held, module.function = [variable.value for variable in inference.variables], serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


@pytest.fixture(scope="module")
def group_saved_model(tiny_group_model, tmp_path_factory):
    """A SavedModel with the signatures of a co-saliency network."""
    import tensorflow as tf

    from keras_recnet.export.litert import converting, signatures

    module, folder = tf.Module(), tmp_path_factory.mktemp("group_saved_model")
    parts = signatures.build(tiny_group_model)
    module.held = [variable.value for part in parts.values() for variable in part.variables]
    module.functions = {name: converting.to_function(part) for name, part in parts.items()}
    tf.saved_model.save(module, str(folder), signatures=dict(module.functions))
    return folder


def test_all_engines_compute_the_same_maps(tiny_preset, saved_model):
    litert = load("litert", tiny_preset / "model.tflite", "float16")
    in_keras = load("keras", tiny_preset)
    served = load("savedmodel", saved_model)
    expected = in_keras.parts["map"]()
    assert expected.shape == (1, 64, 64, 1)
    assert expected.std() > 0.01
    # the weights of a preset are rounded to float16, those of the SavedModel are not
    np.testing.assert_allclose(served.parts["map"]()["saliency"], expected, atol=0.02)
    np.testing.assert_allclose(litert.parts["map"](), expected, atol=0.02)
    assert litert.operations() == in_keras.operations() == served.operations()
    for network in (litert, in_keras, served):
        network.burst(3)
        facts = network.facts()
        assert (facts["parts"], facts["input_shape"], facts["threads"]) == (["map"], [1, 64, 64, 3], 2)
        assert facts["device"]
        assert all(facts["versions"].values())


def test_all_engines_compute_the_same_group(tiny_group_preset, group_saved_model):
    litert = load("litert", tiny_group_preset / "model.tflite", "float16", takes_groups=True)
    in_keras = load("keras", tiny_group_preset, takes_groups=True)
    served = load("savedmodel", group_saved_model, takes_groups=True)
    expected = np.stack(in_keras.parts["group"]())
    assert expected.shape == (networks.GROUP_SIZE, 64, 64)
    np.testing.assert_allclose(served.parts["group"](), expected, atol=0.02)
    np.testing.assert_allclose(litert.parts["group"](), expected, atol=0.02)
    counts = litert.operations()
    assert counts["group"] == counts["encode"] + counts["step"] + counts["decode"]
    assert counts == in_keras.operations() == served.operations()
    for network in (litert, in_keras, served):
        assert list(network.parts) == ["encode", "step", "decode", "group"]
        for run in network.parts.values():
            run()
        network.burst(3)


class NoState:
    """A co-saliency network without a group branch."""

    size, step_features, state_shapes = (2, 3), (), {}

    def encode(self, rgb):
        return {"x": rgb[None]}

    def decode(self, features, state):
        assert state == {}
        return features["x"][0, ..., 0]


def test_a_network_without_group_branch_has_no_step():
    network = networks.GroupNetwork(NoState(), device="CPU", threads=1, packages=())
    assert list(network.parts) == ["encode", "decode", "group"]
    assert [saliency.shape for saliency in network.parts["group"]()] == [(2, 3)] * networks.GROUP_SIZE
    assert network.with_group({"encode": 3, "decode": 4}) == {"encode": 3, "decode": 4, "group": 7}
    assert network.with_group({"encode": 3, "decode": None})["group"] is None


def test_float16_in_keras_is_mixed_precision(tiny_preset):
    network = load("keras", tiny_preset, "float16", size=(96, 64))
    assert keras.config.dtype_policy().name == "mixed_float16"
    assert network.facts()["input_shape"] == [1, 96, 64, 3]


def test_a_matrix_product_has_two_operations_per_multiplication():
    product = load("product", 16)
    product.parts["map"]()
    assert product.operations() == {"map": 2 * 16**3}


def test_an_onnx_file_runs_on_noise_of_its_input_shape(write_onnx, tmp_path):
    network = load("onnx", write_onnx(tmp_path / "peer.onnx", ("batch", 3, 8, 6)), size=None)
    (result,) = network.parts["map"]()
    assert result.shape == (1, 3, 8, 6)
    assert result.std() > 0.1
    network.burst(3)
    assert network.operations() == {}
    assert network.facts()["versions"].keys() == {"onnxruntime"}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 3, 320, 320), (1, 3, 320, 320)),
        (("n", 3, "h", "w"), (1, 3, 24, 40)),
        ((None, None, None, 3), (1, 24, 40, 3)),
        ((4, 3, -1, 32), (4, 3, 24, 32)),
        (("n", 7), (1, 7)),
    ],
)
def test_open_dimensions_of_an_onnx_file_are_filled(shape, expected):
    assert with_onnx._fixed_shape(shape, (24, 40), "peer.onnx") == expected


def test_an_unsuitable_onnx_file_raises_an_error(write_onnx, tmp_path):
    file = tmp_path / "peer.onnx"
    file.write_text("not a network")
    with pytest.raises(ConfigError, match=r"peer\.onnx: not an ONNX file"):
        load("onnx", file)
    with pytest.raises(ConfigError, match="Set it with --against-size"):
        load("onnx", write_onnx(file, (1, 3, "h", "w")), size=None)
    with pytest.raises(ConfigError, match="must have one input"):
        load("onnx", write_onnx(file, (1, 3, 8, 8), inputs=2))
    with pytest.raises(ConfigError, match="must be an image"):
        load("onnx", write_onnx(file, ("batch", "length")))
    with pytest.raises(ConfigError, match=r"Received: tensor\(double\)"):
        load("onnx", write_onnx(file, (1, 3, 8, 8), kind=11))


def test_an_unsuitable_saved_model_raises_an_error(saved_model, tmp_path):
    with pytest.raises(ConfigError, match="with --size"):
        load("savedmodel", saved_model, size=None)
    with pytest.raises(ConfigError, match="must have the signatures `encode` and `decode`"):
        load("savedmodel", saved_model, takes_groups=True)
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="not a SavedModel"):
        load("savedmodel", tmp_path)


def test_a_damaged_litert_file_raises_an_error(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"\0\0\0\0TFL3 damaged")
    with pytest.raises(PresetError, match=r"model\.tflite: not a LiteRT file"):
        load("litert", tmp_path / "model.tflite")


def test_every_precision_except_int8_has_a_keras_policy():
    from keras_recnet.bench.candidates import PRECISIONS

    assert set(with_keras.POLICIES) == set(PRECISIONS) - {"int8"}
