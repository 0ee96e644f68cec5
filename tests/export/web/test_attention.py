import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_recnet.export import sample_images
from keras_recnet.export.litert import converting, signatures
from keras_recnet.export.web.attention import expose_keys


@pytest.fixture(scope="module")
def convert():
    """Function that builds a tiny RecNet with arguments of its attention: the model and its float32 LiteRT file."""
    import keras

    from keras_recnet.models import RecNet

    def build(**arguments):
        keras.utils.set_random_seed(0)
        model = RecNet("efficientnet_lite0", 64, integration_filters=4, head_filters=4, head_stride=4, **arguments)
        return model, converting.convert_parts(signatures.build(model), "float32")

    return build


def run(content, image):
    return Interpreter(model_content=content).get_signature_runner()(image=image[None].astype(np.float32))


def check(model, content, tolerance):
    """Compare the attention from the keys of a file with that of Keras."""
    image = sample_images.draw((64, 64), seed=3)
    exposed, described = expose_keys(content)
    outputs = run(exposed, image)
    np.testing.assert_array_equal(outputs["saliency"], run(content, image)["saliency"])
    assert described["size"] == [8, 8]
    foreground, background = (outputs[described[branch]][0] for branch in ("foreground", "background"))
    for row, column in ((0, 0), (20, 50), (63, 63)):
        scores = described["scale"] * (background @ foreground[row // 8 * 8 + column // 8])
        weights = np.exp(scores - scores.max())
        expected = model.attention_map(image, (row, column))
        assert expected.std() > 1e-3  # not uniform
        np.testing.assert_allclose((weights / weights.sum()).reshape(8, 8), expected, rtol=0, atol=tolerance)


def test_the_keys_of_a_float16_file_give_the_attention_map_of_keras(tiny_model, tiny_preset):
    check(tiny_model, (tiny_preset / "model.tflite").read_bytes(), 5e-2)


def test_the_keys_of_the_papers_attention_give_the_attention_map_of_keras(convert):
    check(*convert(attention_normalize="joint", scale_scores=False, key_channels=4), 1e-4)


def test_exposing_keys_twice_changes_nothing(tiny_preset):
    once, described = expose_keys((tiny_preset / "model.tflite").read_bytes())
    assert described is not None
    assert expose_keys(once) == (once, described)


def test_a_network_without_attention_is_not_changed(tiny_group_preset):
    content = (tiny_group_preset / "model.tflite").read_bytes()
    assert expose_keys(content) == (content, None)


def test_a_network_with_attention_of_the_background_only_is_not_changed(convert):
    _, content = convert(attention="background", attention_normalize="each", key_channels=8)
    unchanged, described = expose_keys(content)
    assert described is None
    assert unchanged == content
