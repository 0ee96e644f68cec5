"""Type checkers see the real types of the public names, and every public name can be imported."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAM = """
from collections.abc import Iterator
from pathlib import Path
from typing import assert_type

import numpy as np

import keras_recnet
from keras_recnet import GroupPredictor, Predictor, RCAUNet, RecNet, cosaliency, export, layers, losses, metrics
from keras_recnet import models, pipelines, presets
from keras_recnet.errors import ImageError

assert_type(keras_recnet.__version__, str)
assert_type(keras_recnet.saliency("photo.jpg"), np.ndarray)
assert_type(cosaliency(["a.jpg", "b.jpg"]), list[np.ndarray])

predictor = Predictor("recnet_lite0", size=320)
assert_type(predictor("photo.jpg"), np.ndarray)
assert_type(predictor.map(["photo.jpg"]), Iterator[np.ndarray])
assert_type(predictor.map(["photo.jpg"], errors="return"), Iterator[np.ndarray | ImageError])
assert_type(GroupPredictor()(["a.jpg", "b.jpg"], orders=3), list[np.ndarray])

assert_type(RecNet("vgg16", image_size=224), RecNet)
assert_type(RecNet.from_preset("recnet_lite0"), RecNet)
assert_type(RCAUNet.from_preset("rcau_lite0"), RCAUNet)
assert_type(RCAUNet.from_recnet("recnet_lite0"), RCAUNet)
assert_type(models.from_preset("recnet_lite0"), RecNet | RCAUNet)
assert_type(presets.find("recnet_lite0").task, str)

assert_type(layers.Fusion("average"), layers.Fusion)
assert_type(losses.SaliencyLoss(dice_weight=0.5), losses.SaliencyLoss)
assert_type(metrics.SaliencyMAE(), metrics.SaliencyMAE)
assert_type(pipelines.find_pairs("images", "masks"), list[pipelines.Pair])
assert_type(pipelines.find_groups("Cosal2015"), list[pipelines.Group])
assert_type(export.export_model("recnet_lite0", Path("phone"), format="litert"), dict)
"""

# Wrong lines of code, each with a part of the error that mypy reports for it.
WRONG = {
    "keras_recnet.salency('photo.jpg')": '"salency"',
    "RecNet(image_size='large')": '"RecNet" has incompatible type "str"',
    "losses.SaliencyLoss(dice_weight='half')": '"SaliencyLoss" has incompatible type "str"',
    "Predictor(5)": '"Predictor" has incompatible type "int"',
    "pipelines.find_pair('images', 'masks')": '"find_pair"',
    "export.export_model('recnet_lite0', 'phone')": '"format"',
    "GroupPredictor().orders": '"orders"',
    "keras_recnet.saliency('photo.jpg').upper()": '"upper"',
}


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Return a function that checks programs against the library, laid out as it is installed."""
    folder = tmp_path_factory.mktemp("types")
    package = folder / "site" / "keras_recnet"
    package.mkdir(parents=True)
    for path in (*(ROOT / "keras_recnet").iterdir(), ROOT / "pipelines", ROOT / "export"):
        (package / path.name).symlink_to(path)

    def check(*programs, options=()):
        files = [f"program{number or ''}.py" for number in range(len(programs))]
        for file, program in zip(files, programs, strict=True):
            (folder / file).write_text(program, encoding="utf-8")
        options = ("--follow-imports=silent", "--ignore-missing-imports", *options)
        result = subprocess.run(
            (sys.executable, "-m", "mypy", *options, *files),
            cwd=folder,
            env={**os.environ, "MYPYPATH": "site", "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not result.stderr, result.stderr
        return result.stdout

    return check


def test_a_program_sees_the_real_types(mypy):
    output = mypy(PROGRAM)
    assert output.startswith("Success"), output


def test_mypy_reports_wrong_uses(mypy):
    lines = PROGRAM.splitlines()
    output = mypy("\n".join([*lines, *WRONG]))
    for number, (line, error) in enumerate(WRONG.items(), len(lines) + 1):
        errors = [text for text in output.splitlines() if text.startswith(f"program.py:{number}: error:")]
        assert errors, f"no error for {line}\n{output}"
        assert error in errors[0]
    assert f"Found {len(WRONG)} errors" in output


def test_the_examples_of_the_documentation_have_no_type_errors(mypy):
    examples = [
        example
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        for example in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    ]
    assert len(examples) > 5
    output = mypy(*examples, options=["--disable-error-code=name-defined"])
    assert output.startswith("Success"), output


@pytest.mark.parametrize("package", ["keras_recnet", "keras_recnet.pipelines", "keras_recnet.export"])
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(package)
    assert module.__all__ == dir(module) != []
    for name in module.__all__:
        assert getattr(module, name) is not None
