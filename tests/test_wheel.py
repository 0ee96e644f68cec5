"""The wheel: what it holds, and a prediction from it outside the checkout."""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_recnet

ROOT = Path(__file__).parents[1]
BUILT_FROM = ["keras_recnet", "pipelines", "export", "setup.py", "pyproject.toml", "README.md", "LICENSE"]


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without network from a copy: a build leaves its own folders in the tree it runs in."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder, tree)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--no-deps", "--no-index", "--no-compile", "--target", target, wheel)
    return target


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def below(folder, pattern):
    return {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob(pattern) if path.is_file()}


def test_has_one_top_level(names):
    assert {name.split("/")[0] for name in names} == {
        "keras_recnet",
        f"keras_recnet-{keras_recnet.__version__}.dist-info",
    }


def test_holds_every_module_where_it_is_imported_from(names):
    expected = {f"keras_recnet/{path}" for path in below("keras_recnet", "*.py")}
    expected |= {f"keras_recnet/{inner}/{path}" for inner in ("pipelines", "export") for path in below(inner, "*.py")}
    assert {name for name in names if name.endswith(".py")} == expected


def test_holds_the_data_files(names):
    expected = {"keras_recnet/py.typed", "keras_recnet/backbones/efficientnet_lite0_imagenet.npz"}
    expected |= {f"keras_recnet/{folder}__init__.pyi" for folder in ("", "pipelines/", "export/")}
    expected |= {f"keras_recnet/training/configs/{path}" for path in below("keras_recnet/training/configs", "*.yaml")}
    expected |= {f"keras_recnet/presets/{path}" for path in below("keras_recnet/presets", "*/*") if "__" not in path}
    expected |= {f"keras_recnet/evaluation/{path}" for path in below("keras_recnet/evaluation", "*.jinja")}
    expected |= {
        f"keras_recnet/evaluation/published_tables/{path}"
        for path in below("keras_recnet/evaluation/published_tables", "*.csv")
    }
    expected |= {
        f"keras_recnet/export/serving/{path}"
        for pattern in ("*.yaml", "*.config")
        for path in below("export/serving", pattern)
    }
    expected |= {f"keras_recnet/export/android/{path}" for path in below("export/android", "*")}
    assert "keras_recnet/training/configs/smoke.yaml" in expected
    assert "keras_recnet/export/serving/docker-compose.yaml" in expected
    assert "keras_recnet/evaluation/published_tables/recnet_table1.csv" in expected
    assert "keras_recnet/presets/recnet_lite0/model.tflite" in expected
    assert {name for name in names if name.startswith("keras_recnet/") and not name.endswith(".py")} == expected


def test_says_its_version_and_command(wheel, names):
    info = f"keras_recnet-{keras_recnet.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Version"] == keras_recnet.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "keras-recnet = keras_recnet.cli.main:main" in entry_points
    assert f"{info}/licenses/LICENSE" in names


def test_the_base_install_asks_for_no_framework(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"keras_recnet-{keras_recnet.__version__}.dist-info/METADATA"))
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert base
    assert not [
        line for line in base if line.startswith(("keras", "tensorflow", "jax", "torch", "pydantic", "pysodmetrics"))
    ]


def test_predicts_outside_the_checkout(installed, tmp_path):
    photo = ROOT / "examples" / "photos" / "flower.jpg"
    (tmp_path / "main.py").write_text(
        "import sys\n"
        "import keras_recnet.cli.main\n"
        "print(keras_recnet.cli.main.__file__)\n"
        "try:\n"
        "    sys.exit(keras_recnet.cli.main.main())\n"
        "finally:\n"
        "    assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    output = run(
        sys.executable,
        "main.py",
        "predict",
        photo,
        "-o",
        "out",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    assert Path(output.splitlines()[0]).is_relative_to(installed)
    with Image.open(photo) as image, Image.open(tmp_path / "out" / "flower.png") as saved:
        assert saved.size == image.size
        saliency = np.asarray(saved)
    height, width = saliency.shape
    assert saliency[height // 3 : height * 2 // 3, width * 2 // 5 : width * 3 // 5].mean() > 200
    assert saliency[:, : width // 8].mean() < 50
