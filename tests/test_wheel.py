"""The wheel, and commands of the installed wheel, run outside a checkout and from the root of a checkout."""

import email
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_recnet
from keras_recnet.export import read_metadata

ROOT = Path(__file__).parents[1]
BUILT_FROM = ["keras_recnet", "pipelines", "export", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the checkout, since a build writes to the tree it runs in."""
    tree = tmp_path_factory.mktemp("checkout") / "tree"
    tree.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree)
    return tree


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    """The wheel, built without network."""
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder, tree)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory):
    """The `bin` folder of a virtual environment that contains the dependencies, but not the library."""
    return new_environment(tmp_path_factory.mktemp("dependencies"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` folder of a virtual environment that contains the wheel and the dependencies."""
    bin = new_environment(tmp_path_factory.mktemp("installed"))
    run(*PIP, "--python", bin / "python", "install", "--no-deps", "--no-index", "--no-compile", wheel)
    return bin


def new_environment(folder):
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # The packages of this environment, without its .pth files: one of them may be an editable install of the library.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def below(folder, pattern):
    return {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob(pattern) if path.is_file()}


def test_the_wheel_has_one_top_level_package(names):
    assert {name.split("/")[0] for name in names} == {
        "keras_recnet",
        f"keras_recnet-{keras_recnet.__version__}.dist-info",
    }


def test_the_wheel_contains_every_module_in_its_package(names):
    expected = {f"keras_recnet/{path}" for path in below("keras_recnet", "*.py")}
    expected |= {f"keras_recnet/{inner}/{path}" for inner in ("pipelines", "export") for path in below(inner, "*.py")}
    assert {name for name in names if name.endswith(".py")} == expected


def test_the_wheel_contains_the_data_files(names):
    expected = {"keras_recnet/py.typed", "keras_recnet/backbones/efficientnet_lite0_imagenet.npz"}
    expected |= {f"keras_recnet/{folder}__init__.pyi" for folder in ("", "pipelines/", "export/")}
    expected |= {f"keras_recnet/training/configs/{path}" for path in below("keras_recnet/training/configs", "*.yaml")}
    expected |= {f"keras_recnet/presets/{path}" for path in below("keras_recnet/presets", "*/*") if "__" not in path}
    expected |= {f"keras_recnet/evaluation/{path}" for path in below("keras_recnet/evaluation", "*.jinja")}
    definitions = "keras_recnet/studies/definitions"
    expected |= {f"{definitions}/{path}" for path in below(definitions, "*.yaml")}
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
    for folder in ("page", "litert"):
        expected |= {f"keras_recnet/export/web/{folder}/{path}" for path in below(f"export/web/{folder}", "*")}
    assert "keras_recnet/training/configs/smoke.yaml" in expected
    assert "keras_recnet/export/serving/docker-compose.yaml" in expected
    assert "keras_recnet/evaluation/published_tables/recnet_table1.csv" in expected
    assert "keras_recnet/presets/recnet_lite0/model.tflite" in expected
    assert {name for name in names if name.startswith("keras_recnet/") and not name.endswith(".py")} == expected


def test_the_metadata_has_the_version_and_the_command(wheel, names):
    info = f"keras_recnet-{keras_recnet.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Version"] == keras_recnet.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "keras-recnet = keras_recnet.cli.main:main" in entry_points
    assert f"{info}/licenses/LICENSE" in names


def test_the_base_install_requires_no_framework(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f"keras_recnet-{keras_recnet.__version__}.dist-info/METADATA"))
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert base
    assert not [
        line for line in base if line.startswith(("keras", "tensorflow", "jax", "torch", "pydantic", "pysodmetrics"))
    ]


def test_the_installed_command_predicts_outside_the_checkout(installed, tmp_path):
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
    output = run(installed / "python", "main.py", "predict", photo, "-o", "out", cwd=tmp_path, env=ENVIRONMENT)
    assert Path(output.splitlines()[0]).is_relative_to(installed.parent)
    with Image.open(photo) as image, Image.open(tmp_path / "out" / "flower.png") as saved:
        assert saved.size == image.size
        saliency = np.asarray(saved)
    height, width = saliency.shape
    assert saliency[height // 3 : height * 2 // 3, width * 2 // 5 : width * 3 // 5].mean() > 200
    assert saliency[:, : width // 8].mean() < 50


@pytest.fixture(scope="module")
def checkout(tree, wheel):
    """The root of a checkout whose version differs from the version of the wheel built from it."""
    file = tree / "keras_recnet" / "__init__.py"
    version = f'__version__ = "{keras_recnet.__version__}'
    file.write_text(file.read_text().replace(version, f"{version}+checkout"))
    return tree


@pytest.mark.parametrize("environment", ["installed", "dependencies"])
def test_modules_run_from_a_checkout(request, environment, checkout):
    python = request.getfixturevalue(environment) / "python"
    code = "from keras_recnet import export, pipelines; print(export.__file__, pipelines.__file__)"
    assert run(python, "-c", code, cwd=checkout, env=ENVIRONMENT).split() == [
        str(checkout / name / "__init__.py") for name in ("export", "pipelines")
    ]
    help = run(python, "-m", "keras_recnet.export.serving.rest_client", "--help", cwd=checkout, env=ENVIRONMENT)
    assert "--batch-size" in help


@pytest.mark.parametrize("environment", ["installed", "dependencies"])
def test_a_child_process_runs_the_copy_of_its_parent(request, environment, checkout):
    python = request.getfixturevalue(environment) / "python"
    child = "import keras_recnet, keras_recnet.export, keras_recnet.pipelines; print(keras_recnet.__version__)"
    parent = (
        f"import subprocess\nfrom keras_recnet.parallel import child_python\nsubprocess.run(**child_python({child!r}))"
    )
    version = keras_recnet.__version__
    assert run(python, "-c", parent, cwd=checkout, env=ENVIRONMENT).strip() == f"{version}+checkout"
    if environment == "installed":  # -P: from site-packages, as an installed command runs
        assert run(python, "-P", "-c", parent, cwd=checkout, env=ENVIRONMENT).strip() == version


def test_the_installed_command_exports_from_a_checkout(installed, checkout, tmp_path):
    arguments = ("export", "recnet_lite0", "--format", "litert", "-o", tmp_path / "out")
    run(installed / "keras-recnet", *arguments, cwd=checkout, env=ENVIRONMENT)
    assert read_metadata(tmp_path / "out" / "model.tflite")["keras_recnet"] == keras_recnet.__version__


def test_a_checkout_trains_and_converts_without_installation(dependencies, checkout):
    arguments = ("train", "smoke", "--set=preset.litert=true", "--set=epochs=1")
    run(dependencies / "python", "-m", "keras_recnet.cli.main", *arguments, cwd=checkout, env=ENVIRONMENT)
    file = checkout / "runs" / "smoke" / "preset" / "model.tflite"
    assert read_metadata(file)["keras_recnet"] == f"{keras_recnet.__version__}+checkout"
