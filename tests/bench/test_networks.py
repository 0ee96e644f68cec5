import keras
import numpy as np
import pytest

from keras_recnet.bench import networks, with_keras, with_onnx
from keras_recnet.bench.candidates import Contestant
from keras_recnet.errors import ConfigError, PresetError


@pytest.fixture(autouse=True)
def _this_process_keeps_its_settings(monkeypatch):
    """Threads and precision are settings of a whole process, which a contestant has for itself."""
    for module in ("with_keras", "with_tensorflow"):
        monkeypatch.setattr(f"keras_recnet.bench.{module}.limit_tensorflow", lambda threads: None)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


def load(engine, source, precision="float32", of_groups=False, size=(64, 64)):
    return networks.load(Contestant("tiny", engine, precision, str(source), size=size, of_groups=of_groups), 2)


@pytest.fixture(scope="module")
def saved_model(tiny_model, tmp_path_factory):
    """A SavedModel for pictures of any size."""
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
def saved_model_of_groups(tiny_group_model, tmp_path_factory):
    """A SavedModel with the signatures of a network of groups."""
    import tensorflow as tf

    from keras_recnet.export.litert import converting, signatures

    module, folder = tf.Module(), tmp_path_factory.mktemp("saved_model_of_groups")
    parts = signatures.of(tiny_group_model)
    module.held = [variable.value for part in parts.values() for variable in part.variables]
    module.functions = {name: converting.function(part) for name, part in parts.items()}
    tf.saved_model.save(module, str(folder), signatures=dict(module.functions))
    return folder


def test_the_engines_of_a_network_run_the_same(tiny_preset, saved_model):
    litert = load("litert", tiny_preset / "model.tflite", "float16")
    in_keras = load("keras", tiny_preset)
    served = load("savedmodel", saved_model)
    expected = in_keras.parts["map"]()
    assert expected.shape == (1, 64, 64, 1)
    assert expected.std() > 0.01
    # a preset's weights are rounded to float16, those of the SavedModel are not
    np.testing.assert_allclose(served.parts["map"]()["saliency"], expected, atol=0.02)
    np.testing.assert_allclose(litert.parts["map"](), expected, atol=0.02)
    assert litert.operations() == in_keras.operations() == served.operations()
    for network in (litert, in_keras, served):
        network.burst(3)
        facts = network.facts()
        assert (facts["parts"], facts["input_shape"], facts["threads"]) == (["map"], [1, 64, 64, 3], 2)
        assert facts["device"]
        assert all(facts["versions"].values())


def test_the_engines_of_a_network_of_groups_run_its_parts(tiny_group_preset, saved_model_of_groups):
    litert = load("litert", tiny_group_preset / "model.tflite", "float16", of_groups=True)
    in_keras = load("keras", tiny_group_preset, of_groups=True)
    served = load("savedmodel", saved_model_of_groups, of_groups=True)
    expected = np.stack(in_keras.parts["group"]())
    assert expected.shape == (networks.IMAGES, 64, 64)
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
    """A network of groups without a group branch."""

    size, has_state = (2, 3), False

    def encode(self, rgb):
        return {"x": rgb[None]}

    def decode(self, features, state):
        assert state is None
        return features["x"][0, ..., 0]


def test_without_a_group_branch_there_is_no_step():
    network = networks.GroupNetwork(NoState(), device="CPU", threads=1, packages=())
    assert list(network.parts) == ["encode", "decode", "group"]
    assert [saliency.shape for saliency in network.parts["group"]()] == [(2, 3)] * networks.IMAGES
    assert network.with_group({"encode": 3, "decode": 4}) == {"encode": 3, "decode": 4, "group": 7}
    assert network.with_group({"encode": 3, "decode": None})["group"] is None


def test_float16_in_keras_is_mixed_precision(tiny_preset):
    network = load("keras", tiny_preset, "float16", size=(96, 64))
    assert keras.config.dtype_policy().name == "mixed_float16"
    assert network.facts()["input_shape"] == [1, 96, 64, 3]


def test_a_product_counts_two_operations_a_multiplication():
    product = load("product", 16)
    product.parts["map"]()
    assert product.operations() == {"map": 2 * 16**3}


def test_an_onnx_file_runs_on_noise_of_its_shape(write_onnx, tmp_path):
    network = load("onnx", write_onnx(tmp_path / "peer.onnx", ("batch", 3, 8, 6)), size=None)
    (result,) = network.parts["map"]()
    assert result.shape == (1, 3, 8, 6)
    assert result.std() > 0.1
    network.burst(3)
    assert network.operations() == {}
    assert network.facts()["versions"].keys() == {"onnxruntime"}


@pytest.mark.parametrize(
    ("shape", "closed"),
    [
        ((1, 3, 320, 320), (1, 3, 320, 320)),
        (("n", 3, "h", "w"), (1, 3, 24, 40)),
        ((None, None, None, 3), (1, 24, 40, 3)),
        ((4, 3, -1, 32), (4, 3, 24, 32)),
        (("n", 7), (1, 7)),
    ],
)
def test_what_an_onnx_file_leaves_open_is_filled(shape, closed):
    assert with_onnx._closed(shape, (24, 40), "peer.onnx") == closed


def test_says_what_is_wrong_with_an_onnx_file(write_onnx, tmp_path):
    file = tmp_path / "peer.onnx"
    file.write_text("This is no network.")
    with pytest.raises(ConfigError, match=r"peer\.onnx: not an ONNX file"):
        load("onnx", file)
    with pytest.raises(ConfigError, match="give it by --against-size"):
        load("onnx", write_onnx(file, (1, 3, "h", "w")), size=None)
    with pytest.raises(ConfigError, match="must have one input"):
        load("onnx", write_onnx(file, (1, 3, 8, 8), inputs=2))
    with pytest.raises(ConfigError, match="must be a picture"):
        load("onnx", write_onnx(file, ("batch", "length")))
    with pytest.raises(ConfigError, match=r"Received: tensor\(double\)"):
        load("onnx", write_onnx(file, (1, 3, 8, 8), kind=11))


def test_says_what_is_wrong_with_a_saved_model(saved_model, tmp_path):
    with pytest.raises(ConfigError, match="give --size"):
        load("savedmodel", saved_model, size=None)
    with pytest.raises(ConfigError, match="has not the signatures encode and decode"):
        load("savedmodel", saved_model, of_groups=True)
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="not a SavedModel"):
        load("savedmodel", tmp_path)


def test_says_what_is_wrong_with_a_litert_file(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"\0\0\0\0TFL3 damaged")
    with pytest.raises(PresetError, match=r"model\.tflite: not the LiteRT file"):
        load("litert", tmp_path / "model.tflite")


def test_policies_name_every_precision():
    from keras_recnet.bench.candidates import PRECISIONS

    assert set(with_keras.POLICIES) == set(PRECISIONS)
