"""The names, shapes and types in the Kotlin example, which is not compiled, match the LiteRT files."""

import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_recnet import presets

FOLDER = Path(__file__).parents[2] / "export" / "android"


def constants(name):
    """Return the constants in the companion object of a file: strings, and shapes as tuples."""
    source = (FOLDER / name).read_text(encoding="utf-8")
    companion = source[source.index("companion object") :]
    strings = dict(re.findall(r'const val (\w+) = "([^"]+)"', companion))
    shapes = re.findall(r"val (\w+) = intArrayOf\(([\d, ]+)\)", companion)
    return strings | {key: tuple(map(int, numbers.split(","))) for key, numbers in shapes}


@pytest.fixture(scope="module")
def types():
    """The types in LiteRt.kt, of images and of other tensors."""
    source = (FOLDER / "LiteRt.kt").read_text(encoding="utf-8")
    images = re.search(r"IMAGE_TYPES = listOf\(([^)]+)\)", source).group(1)
    (other,) = re.search(r"TENSOR_TYPE = DataType\.(\w+)", source).groups()
    return {name.split(".")[1].lower() for name in images.split(", ")}, other.lower()


def details(file):
    """Return signature → inputs and outputs → name → shape and type."""
    interpreter = Interpreter(str(file))
    signatures = {}
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        signatures[name] = [
            {key: (tuple(detail["shape"].tolist()), np.dtype(detail["dtype"]).name) for key, detail in part.items()}
            for part in (runner.get_input_details(), runner.get_output_details())
        ]
    return signatures


def test_saliency_mapper_matches_the_shipped_file(types):
    images, other = types
    kotlin = constants("SaliencyMapper.kt")
    inputs, outputs = details(presets.find("recnet_lite0").file("model.tflite"))[kotlin["SIGNATURE"]]
    assert inputs == {kotlin["IMAGE"]: (kotlin["IMAGE_SHAPE"], "float32")}
    assert outputs == {kotlin["SALIENCY"]: (kotlin["SALIENCY_SHAPE"], other)}
    assert images == {"float32", "uint8"}


@pytest.mark.parametrize("version", ["edge, float16", "edge", "rcau", "gru", "mean", None])
def test_co_saliency_mapper_matches_files_for_groups(types, tiny_group_preset, group_file, version):
    images, other = types
    kotlin = constants("CoSaliencyMapper.kt")
    signatures = details(tiny_group_preset / "model.tflite" if version == "edge, float16" else group_file(version)[1])
    names = [kotlin[name] for name in ("ENCODE", "STEP", "DECODE")]
    assert signatures.keys() == set(names if version is not None else names[::2])
    encode, features = signatures[kotlin["ENCODE"]]
    step, state = signatures.get(kotlin["STEP"], ({}, {}))
    decode, saliency = signatures[kotlin["DECODE"]]
    # the same checks as in the Kotlin class
    ((shape, dtype),) = encode.values()
    assert encode.keys() == {kotlin["IMAGE"]}
    assert (len(shape), shape[0], shape[3], dtype in images) == (4, 1, 3, True)
    assert saliency == {kotlin["SALIENCY"]: ((1, *shape[1:3], 1), other)}
    # the buffers of the outputs of `encode` and `step` are the inputs of `step` and `decode`
    assert features.keys().isdisjoint(state)
    for inputs in (step, decode):
        assert inputs.items() <= (features | state).items()
    assert state.items() <= step.items()
    assert {dtype for part in (features, step, decode) for _, dtype in part.values()} == {other}


def test_the_code_imports_only_classes_of_the_interpreter_api():
    imports = {
        line.split()[1]
        for file in FOLDER.glob("*.kt")
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("import org.")
    }
    assert imports == {
        "org.tensorflow.lite.DataType",
        "org.tensorflow.lite.Interpreter",
        "org.tensorflow.lite.gpu.CompatibilityList",
        "org.tensorflow.lite.gpu.GpuDelegate",
    }


def test_readme_says_that_the_code_has_not_been_compiled_and_names_the_training_data():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "has not been compiled" in readme
    assert "DUTS-TR" in readme
