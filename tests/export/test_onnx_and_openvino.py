import json

import keras
import numpy as np
import pytest

from keras_recnet import models
from keras_recnet.errors import ConfigError, MissingExtraError
from keras_recnet.export import export_model, exporting, standalone_runner, verification

PACKAGES = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "openvino": ("openvino",)}


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def format(request):
    for package in PACKAGES[request.param]:
        pytest.importorskip(package, reason=f"{request.param} exports need {package}")
    return request.param


@pytest.fixture(scope="module")
def exported(format, tiny_preset, tmp_path_factory):
    out = tmp_path_factory.mktemp(format) / "out"
    export_model(tiny_preset, out, format=format)
    return out


def run(file, format, **inputs):
    """Run a file and return its outputs by name."""
    if format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, inputs), strict=True))
    import openvino

    compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled(inputs)
    return {name: results[output] for output in compiled.outputs for name in output.names}


def suffix(format):
    return ".onnx" if format == "onnx" else ".xml"


@pytest.mark.parametrize("batch", [1, 3])
def test_maps_equal_those_of_keras_for_any_batch_size(exported, format, tiny_preset, batch):
    images = np.random.default_rng(0).integers(0, 256, (batch, 64, 64, 3)).astype("float32")
    model = models.from_preset(tiny_preset)  # with the weights of the file, which are stored as float16
    expected = keras.ops.convert_to_numpy(model.to_inference()(images, training=False))
    outputs = run(exported / f"model{suffix(format)}", format, image=images)
    assert "saliency" in outputs
    np.testing.assert_allclose(outputs["saliency"], expected, atol=1e-5)
    assert expected.std() > 0.01


def test_the_description_lists_the_tensors_and_the_verification_results(exported, format):
    description = json.loads((exported / "export.json").read_text())
    assert description["signatures"]["serving_default"] == {
        "inputs": {"image": {"dtype": "float32", "shape": [None, 64, 64, 3], "meaning": "RGB in 0…255"}},
        "outputs": {"saliency": {"dtype": "float32", "shape": [None, 64, 64, 1], "meaning": "map in 0…1"}},
    }
    (row,) = description["verification"]["differences"]
    assert row["mean"] < row["tolerance"] == 1e-5
    assert {"onnx": "onnxruntime", "openvino": "openvino"}[format] in description["versions"]
    files = {"onnx": {"model.onnx"}, "openvino": {"model.xml", "model.bin"}}[format]
    assert description["files"].keys() == files
    assert {path.name for path in exported.iterdir()} == files | {"export.json"}


def test_an_onnx_file_describes_itself(exported, format):
    if format != "onnx":
        pytest.skip("only ONNX files have metadata")
    import onnx

    model = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(model)
    (image,), (saliency,) = model.graph.input, model.graph.output
    for value, shape in ((image, ["batch", 64, 64, 3]), (saliency, ["batch", 64, 64, 1])):
        assert [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim] == shape
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["model"] == "RecNet"
    assert "RGB in 0…255" in about["preprocessing"]
    assert about["licence"] == "that of the data on which the weights were trained"


def test_a_group_network_has_a_file_per_signature(format, tiny_group_model, tmp_path):
    out = tmp_path / "out"
    description = export_model(tiny_group_model, out, format=format)
    assert {path.name for path in out.glob(f"*{suffix(format)}")} == {
        f"{name}{suffix(format)}" for name in ("encode", "step", "decode")
    }
    assert description["signatures"]["step"]["outputs"]["next_consensus"]["meaning"].startswith("state of the group")
    (row,) = description["verification"]["differences"]
    assert row["signature"] == "encode → step → decode"
    assert row["mean"] < 1e-5
    group = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 3)).astype("float32")
    inputs = {"images": group[None], "mask": np.ones((1, 4), "bool")}
    expected = keras.ops.convert_to_numpy(tiny_group_model.to_inference()(inputs))[0]

    def run_signature(name, tensors):
        return standalone_runner.without_next(run(out / f"{name}{suffix(format)}", format, **tensors))

    arguments = verification.inputs_and_state(tiny_group_model)
    maps = standalone_runner.stream(run_signature, list(group[:, None]), **arguments)
    np.testing.assert_allclose(maps["saliency"], expected, atol=1e-5)


def test_an_unsupported_precision_and_missing_packages_are_refused(tiny_preset, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"must be one of \('float32',\)\. Received: precision='float16'"):
        export_model(tiny_preset, tmp_path / "out", format="onnx", precision="float16")
    found = exporting.importlib.util.find_spec
    for missing, extra in (("tf2onnx", "onnx"), ("openvino", "openvino")):
        finder = lambda name, missing=missing: None if name == missing else found(name)  # noqa: E731
        monkeypatch.setattr(exporting.importlib.util, "find_spec", finder)
        with pytest.raises(MissingExtraError, match=rf'keras-recnet\[{extra}\]"\. Missing: {missing}'):
            export_model(tiny_preset, tmp_path / "out", format=extra)
    assert not (tmp_path / "out").exists()
