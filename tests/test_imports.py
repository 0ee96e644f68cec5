"""Who may import whom: the table of CONTRIBUTING.md, checked over the source, and what an import really loads."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"keras_recnet": ROOT / "keras_recnet", "pipelines": ROOT / "pipelines", "export": ROOT / "export"}

BASE = {"_lazy", "errors", "files", "parallel", "presets"}
CORE = {"backbones", "layers", "models", "losses", "metrics", "optimizers"}

# Each part of the library -> the other parts that it may import, at the top of a file or inside a function.
MAY_IMPORT = {
    "__init__": {"_lazy"},
    "_lazy": set(),
    "errors": set(),
    "files": {"errors"},
    "parallel": set(),
    "presets": {"errors", "files"},
    **dict.fromkeys(CORE, CORE | BASE),
    "models": CORE | BASE,
    "imaging": BASE,
    "pipelines": BASE | {"imaging"},
    "inference": BASE | {"imaging", "models"},
    "export": BASE | {"models"},
    # clients, which are installed without the rest of `export`
    "export.serving": BASE | {"imaging"},
    "training": BASE | CORE | {"imaging", "pipelines", "export"},
    "evaluation": BASE | {"imaging", "inference"},
    "bench": BASE | {"inference", "export", "models"},
    "cli": BASE
    | {"imaging", "inference", "pipelines", "training", "evaluation", "export", "export.serving", "bench", "__init__"},
}

FRAMEWORKS = {"keras", "tensorflow", "jax", "torch"}
BACKENDS = FRAMEWORKS - {"keras"}

# Parts -> third-party packages that they must not import anywhere, and those that only a function may import.
NEVER = {
    **dict.fromkeys((*BASE, "__init__"), FRAMEWORKS),
    **dict.fromkeys(CORE, BACKENDS | {"cv2"}),
    "pipelines": {"keras"},
    "export.serving": FRAMEWORKS,
    "imaging": FRAMEWORKS,
    "inference": BACKENDS,
    "evaluation": FRAMEWORKS,
    "bench": {"jax"},
    "cli": FRAMEWORKS,
}
LAZILY = {
    "export.serving": {"cv2", "grpc", "requests", "tensorflow_serving"},
    "inference": {"keras"},
    "bench": {"keras", "tensorflow", "torch", "onnxruntime", "ai_edge_litert", "rich"},
    "cli": {"numpy", "cv2", "PIL", "pydantic", "matplotlib", "rich"},
}


def part_of(module):
    """`keras_recnet.layers.fusion` -> `layers`; `keras_recnet` itself -> `__init__`."""
    if f"{module}.".startswith("keras_recnet.export.serving."):
        return "export.serving"
    return [*module.split("."), "__init__"][1]


def sources():
    for folder, path in FOLDERS.items():
        for file in sorted(path.rglob("*.py")):
            inner = file.relative_to(path).with_suffix("").parts
            package = ("keras_recnet",) if folder == "keras_recnet" else ("keras_recnet", folder)
            yield file, ".".join((*package, *inner)).removesuffix(".__init__")


def imports(source, module, is_package=False):
    """Gives (imported module, whether at the top of the file) for each import of a file, relative ones resolved."""
    package = module if is_package else module.rpartition(".")[0]

    def visit(node, at_top):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            # `from keras_recnet import layers` imports a part, `from keras_recnet.layers import Fusion` a name in it.
            names = [f"{origin}.{alias.name}" for alias in node.names] if origin == "keras_recnet" else [origin]
            yield from ((name, at_top) for name in names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "keras_recnet":
            yield (
                f"keras_recnet.{node.attr}",
                at_top,
            )  # This loads the part, or what a lazy name stands for.
        elif isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            return  # `python -m` runs the command line of `keras_recnet.cli`; importing the module does not.
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from visit(child, at_top)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_top and not inside)

    yield from visit(ast.parse(source), True)


def offences(source, module, is_package=False):
    part = part_of(module)
    for name, at_top in imports(source, module, is_package):
        first = name.split(".")[0]
        if name in ("keras_recnet", "keras_recnet.__version__"):
            continue  # The top level imports nothing by itself, and every part may tell its version.
        if first == "keras_recnet":
            other = part_of(name) if part_of(name) in MAY_IMPORT else "__init__"
            if other not in MAY_IMPORT[part] | {part}:
                yield f"{module} imports {name}: {part} may import {sorted(MAY_IMPORT[part]) or 'no other part'}"
        elif first in ("pipelines", "export"):
            yield f"{module} imports {name}: it is installed as keras_recnet.{name}"
        elif first in NEVER.get(part, ()):
            yield f"{module} imports {name}: {part} must not"
        elif at_top and first in LAZILY.get(part, ()):
            yield f"{module} imports {name} at the top: {part} may do so only inside a function"


@pytest.mark.parametrize(("file", "module"), [pytest.param(*found, id=found[1]) for found in sources()])
def test_imports_only_what_its_part_may(file, module):
    assert part_of(module) in MAY_IMPORT, f"{file}: a new part of the library. Give it a row in MAY_IMPORT."
    found = list(offences(file.read_text(encoding="utf-8"), module, file.name == "__init__.py"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import tensorflow as tf", "keras_recnet.layers.fusion"),
        ("def f():\n    from tensorflow.keras import ops", "keras_recnet.losses"),
        ("from keras_recnet import training", "keras_recnet.models.recnet"),
        ("from ..training import run", "keras_recnet.models.recnet"),
        ("from .. import training", "keras_recnet.models.recnet"),
        ("from keras_recnet.inference import inputs", "keras_recnet.pipelines.saliency_pairs"),
        ("import keras_recnet\nkeras_recnet.saliency", "keras_recnet.models.recnet"),
        ("from pipelines import saliency_pairs", "keras_recnet.training.run"),
        ("import keras", "keras_recnet.inference.engines"),
        ("try:\n    import keras\nexcept ImportError:\n    pass", "keras_recnet.inference.engines"),
        ("import keras", "keras_recnet"),
        ("from keras_recnet.export import exporting", "keras_recnet.export.serving.client"),
        ("import requests", "keras_recnet.export.serving.rest_client"),
    ],
)
def test_finds_a_forbidden_import(source, module):
    assert list(offences(source, module))


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import keras_recnet\nkeras_recnet.__version__", "keras_recnet.models.preset_model"),
        ("from .fusion import Fusion", "keras_recnet.layers.attention"),
        ("from keras_recnet import __version__, files, losses", "keras_recnet.training.run"),
        ("def f():\n    import keras", "keras_recnet.inference.engines"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import keras", "keras_recnet.inference.engines"),
    ],
)
def test_lets_an_allowed_import_pass(source, module):
    assert not list(offences(source, module))


def loaded_by(statements, **environment):
    """The top-level packages that a fresh interpreter holds after `statements`."""
    code = f"{statements}\nimport sys\nprint('LOADED', *sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_core_modules_load_no_tensorflow():
    modules = [module for _, module in sources() if part_of(module) in CORE]
    loaded = loaded_by("\n".join(f"import {module}" for module in modules), KERAS_BACKEND="jax")
    assert "keras" in loaded
    assert "tensorflow" not in loaded


@pytest.mark.parametrize(
    "statements",
    [
        "import keras_recnet",
        "import keras_recnet.errors, keras_recnet.files, keras_recnet.presets",
        "import keras_recnet.inference.predictor",
        "from keras_recnet import GroupPredictor, Predictor, cosaliency, saliency",
        "import keras_recnet.cli.main",
        "from keras_recnet.pipelines import check_groups, find_groups, make_coco_groups, write_group_folders",
        "import keras_recnet.evaluation.run",
        "from keras_recnet.export.serving import client, grpc_client, pictures, rest_client",
        "from keras_recnet.bench import benchmark, discovery, report, table, with_litert, with_onnx, worker",
    ],
)
def test_what_prediction_and_lists_need_loads_neither_keras_nor_tensorflow(statements):
    assert not loaded_by(statements) & FRAMEWORKS
