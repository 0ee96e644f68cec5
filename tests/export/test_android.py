"""The Kotlin example is not compiled here; what it says of the files is held beside the files."""

import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_recnet import presets

FOLDER = Path(__file__).parents[2] / "export" / "android"


def constants(name):
    """The constants in a file's companion object: strings, and shapes as tuples."""
    source = (FOLDER / name).read_text(encoding="utf-8")
    companion = source[source.index("companion object") :]
    strings = dict(re.findall(r'const val (\w+) = "([^"]+)"', companion))
    shapes = re.findall(r"val (\w+) = intArrayOf\(([\d, ]+)\)", companion)
    return strings | {key: tuple(map(int, numbers.split(","))) for key, numbers in shapes}


@pytest.fixture(scope="module")
def types():
    """The types in LiteRt.kt: of images, and of everything else."""
    source = (FOLDER / "LiteRt.kt").read_text(encoding="utf-8")
    images = re.search(r"IMAGE_TYPES = listOf\(([^)]+)\)", source).group(1)
    (other,) = re.search(r"TENSOR_TYPE = DataType\.(\w+)", source).groups()
    return {name.split(".")[1].lower() for name in images.split(", ")}, other.lower()


def details(file):
    """Signature → inputs and outputs → name → shape and type."""
    interpreter = Interpreter(str(file))
    told = {}
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        told[name] = [
            {key: (tuple(detail["shape"].tolist()), np.dtype(detail["dtype"]).name) for key, detail in part.items()}
            for part in (runner.get_input_details(), runner.get_output_details())
        ]
    return told


def test_saliency_mapper_names_what_the_shipped_file_has(types):
    images, other = types
    kotlin = constants("SaliencyMapper.kt")
    inputs, outputs = details(presets.find("recnet_lite0").file("model.tflite"))[kotlin["SIGNATURE"]]
    assert inputs == {kotlin["IMAGE"]: (kotlin["IMAGE_SHAPE"], "float32")}
    assert outputs == {kotlin["SALIENCY"]: (kotlin["SALIENCY_SHAPE"], other)}
    assert images == {"float32", "uint8"}


def test_co_saliency_mapper_names_what_a_file_of_groups_has(types, tiny_group_preset, group_file):
    images, other = types
    kotlin = constants("CoSaliencyMapper.kt")
    files = [tiny_group_preset / "model.tflite", *(group_file(unit)[1] for unit in ("gru", "mean"))]
    for file in files:
        told = details(file)
        assert told.keys() == {kotlin["ENCODE"], kotlin["STEP"], kotlin["DECODE"]}
        (encode, features), (step, stepped), (decode, decoded) = (
            told[kotlin[name]] for name in ("ENCODE", "STEP", "DECODE")
        )
        # what the class requires of shapes and types
        ((shape, dtype),) = encode.values()
        assert encode.keys() == {kotlin["IMAGE"]}
        assert (len(shape), shape[0], shape[3], dtype in images) == (4, 1, 3, True)
        assert decoded == {kotlin["SALIENCY"]: ((1, *shape[1:3], 1), other)}
        assert step.keys() == {kotlin["X"], kotlin["STATE"]}
        assert stepped == {kotlin["STATE"]: step[kotlin["STATE"]]}
        assert features[kotlin["X"]] == step[kotlin["X"]]
        # the state has x's positions and at least its channels
        assert step[kotlin["STATE"]][0][:3] == step[kotlin["X"]][0][:3]
        assert step[kotlin["STATE"]][0][3] >= step[kotlin["X"]][0][3]
        # decode takes what encode gave, and the state
        assert decode == {**features, kotlin["STATE"]: step[kotlin["STATE"]]}
        assert {dtype for part in (features, step, decode) for _, dtype in part.values()} == {other}


def test_co_saliency_mapper_does_without_a_state_where_the_file_has_none(group_file):
    kotlin = constants("CoSaliencyMapper.kt")
    told = details(group_file(None)[1])
    assert told.keys() == {kotlin["ENCODE"], kotlin["DECODE"]}
    assert told[kotlin["DECODE"]][0] == told[kotlin["ENCODE"]][1]


def test_the_classes_that_it_imports_are_those_of_the_interpreter_api():
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


def test_it_says_that_it_has_not_been_compiled_and_whose_the_weights_are():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "has not been compiled" in readme
    assert "DUTS-TR" in readme
