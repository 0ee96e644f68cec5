import functools
import tempfile

import pytest

from keras_recnet.export import export_model


@pytest.fixture(scope="session")
def tiny_saved_model(tiny_preset, tmp_path_factory):
    """The result of `export_model` for the tiny RecNet as a SavedModel."""
    return export_model(tiny_preset, tmp_path_factory.mktemp("serving") / "tiny", format="savedmodel")


@pytest.fixture(scope="session")
def tiny_group_saved_model(tiny_group_preset, tmp_path_factory):
    """The result of `export_model` for the tiny RCAUNet as a SavedModel."""
    return export_model(tiny_group_preset, tmp_path_factory.mktemp("serving") / "tiny_group", format="savedmodel")


@pytest.fixture(scope="session")
def group_file(make_group_model, tmp_path_factory):
    """`group_file(version)`: a tiny RCAUNet, see `make_group_model`, and its float32 LiteRT file."""
    from keras_recnet.export.litert import converting, signatures

    @functools.cache
    def build(version):
        model = make_group_model(version)
        file = tmp_path_factory.mktemp("litert") / f"{version}.tflite"
        file.write_bytes(converting.convert_parts(signatures.build(model), "float32"))
        return model, file

    return build


@pytest.fixture(scope="session")
def converted():
    """`converted({signature: function}, name=(shape, dtype))`: a LiteRT file of functions of tensors, as bytes."""
    import tensorflow as tf

    def convert(functions, **inputs):
        specs = [tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()]
        module = tf.Module()
        module.functions = {name: tf.function(function, input_signature=specs) for name, function in functions.items()}
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(module, folder, signatures=dict(module.functions))
            return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions)).convert()

    return convert
