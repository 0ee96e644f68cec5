"""The import table of CONTRIBUTING.md, checked in the source and in fresh interpreters."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"keras_recnet": ROOT / "keras_recnet", "pipelines": ROOT / "pipelines", "export": ROOT / "export"}

BASE = {"_lazy", "errors", "files", "parallel", "presets"}
CORE = {"backbones", "layers", "models", "losses", "metrics", "optimizers"}

# Each part of the library → the other parts that it may import, at the top of a file or inside a function.
MAY_IMPORT = {
    "__init__": {"_lazy"},
    "__main__": {"cli"},
    "_lazy": set(),
    "errors": set(),
    "files": {"errors"},
    "parallel": set(),
    "presets": {"errors", "files"},
    **dict.fromkeys(CORE, CORE | BASE),
    "imaging": BASE,
    "pipelines": BASE | {"imaging"},
    "inference": BASE | {"imaging", "models"},
    "export": BASE | {"imaging", "models"},
    # The clients for TF Serving, which need neither TensorFlow nor the rest of `export`.
    "export.serving": BASE | {"imaging"},
    "training": BASE | CORE | {"imaging", "pipelines", "inference", "export"},
    "bulk": BASE | {"imaging", "inference"},
    "evaluation": BASE | {"imaging", "inference", "pipelines"},
    "studies": BASE | {"imaging", "training", "evaluation"},
    "bench": BASE | {"inference", "export", "models"},
    "video": BASE | {"imaging", "inference"},
    "cli": BASE
    | {
        "imaging",
        "inference",
        "pipelines",
        "training",
        "evaluation",
        "studies",
        "export",
        "export.serving",
        "bench",
        "video",
        "bulk",
        "__init__",
    },
}

FRAMEWORKS = {"keras", "tensorflow", "jax", "torch"}
BACKENDS = FRAMEWORKS - {"keras"}

# Parts → third-party packages that they must never import, and packages that they may import only inside functions.
NEVER = {
    **dict.fromkeys((*BASE, "__init__"), FRAMEWORKS),
    **dict.fromkeys(CORE, BACKENDS | {"cv2"}),
    "pipelines": {"keras"},
    "export.serving": FRAMEWORKS,
    "imaging": FRAMEWORKS,
    "inference": BACKENDS,
    "evaluation": FRAMEWORKS,
    "bulk": FRAMEWORKS,
    "studies": FRAMEWORKS,
    "bench": {"jax"},
    "video": FRAMEWORKS,
    "cli": FRAMEWORKS,
}
ONLY_IN_FUNCTIONS = {
    "export.serving": {"cv2", "grpc", "requests", "tensorflow_serving"},
    "inference": {"keras"},
    "bulk": {"ray", "pyarrow"},
    "bench": {"keras", "tensorflow", "torch", "onnxruntime", "ai_edge_litert", "rich"},
    "video": {"av"},
    "cli": {"numpy", "cv2", "PIL", "pydantic", "matplotlib", "rich"},
}


def part_of(module):
    """Return the part of a module: `keras_recnet.layers.fusion` → `layers`, `keras_recnet` → `__init__`."""
    if f"{module}.".startswith("keras_recnet.export.serving."):
        return "export.serving"
    return [*module.split("."), "__init__"][1]


def sources():
    """Yield each source file and its module name."""
    for folder, path in FOLDERS.items():
        for file in sorted(path.rglob("*.py")):
            inner = file.relative_to(path).with_suffix("").parts
            package = ("keras_recnet",) if folder == "keras_recnet" else ("keras_recnet", folder)
            yield file, ".".join((*package, *inner)).removesuffix(".__init__")


def imports(source, module, is_package=False):
    """Yield (absolute name, whether at the top of the file) for each import of a file."""
    package = module if is_package else module.rpartition(".")[0]

    def visit(node, at_top):
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((f"{origin}.{alias.name}", at_top) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "keras_recnet":
            yield f"keras_recnet.{node.attr}", at_top  # A lazy public name: using it imports a part.
        elif isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
            return  # Runs only as a command.
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from visit(child, at_top)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_top and not inside)

    yield from visit(ast.parse(source), True)


def violations(source, module, is_package=False):
    part = part_of(module)
    for name, at_top in imports(source, module, is_package):
        first = name.split(".")[0]
        if name in ("keras_recnet", "keras_recnet.__version__"):
            continue  # `keras_recnet` itself imports only `_lazy`, and every part may use its version.
        if first == "keras_recnet":
            other = part_of(name) if part_of(name) in MAY_IMPORT else "__init__"
            if other not in MAY_IMPORT[part] | {part}:
                yield f"{module} imports {name}: {part} may import only {sorted(MAY_IMPORT[part]) or 'itself'}"
        elif first in ("pipelines", "export"):
            yield f"{module} imports {name}: import keras_recnet.{name}"
        elif first in NEVER.get(part, ()):
            yield f"{module} imports {name}: {part} must not import {first}"
        elif at_top and first in ONLY_IN_FUNCTIONS.get(part, ()):
            yield f"{module} imports {name} at the top: {part} may import {first} only inside functions"


@pytest.mark.parametrize(("file", "module"), [pytest.param(*source, id=source[1]) for source in sources()])
def test_each_module_follows_the_import_table(file, module):
    assert part_of(module) in MAY_IMPORT, f"{file}: a new part of the library. Add a row to MAY_IMPORT."
    forbidden = list(violations(file.read_text(encoding="utf-8"), module, file.name == "__init__.py"))
    assert not forbidden, "\n".join(forbidden)


def module_graph():
    """Return each module → the modules that it imports, anywhere in its file."""
    files = {module: file for file, module in sources()}

    def module_of(name):
        while name not in files:
            name = name.rpartition(".")[0]
        return name

    return {
        module: {
            module_of(name)
            for name, _ in imports(file.read_text(encoding="utf-8"), module, file.name == "__init__.py")
            if name.startswith("keras_recnet.")
        }
        - {module, "keras_recnet"}
        for module, file in files.items()
    }


def cycle(graph):
    """Return the nodes of a cycle in a graph, or None."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_modules_have_no_import_cycle():
    assert cycle(module_graph()) is None


def test_folders_have_no_import_cycle():
    """Each subfolder is a separate node, so a folder and its subfolder do not import each other either."""
    packages = {module for file, module in sources() if file.name == "__init__.py"}
    folder_of = {module: module if module in packages else module.rpartition(".")[0] for module in module_graph()}
    folders = {}
    for module, imported in module_graph().items():
        # modules at the top of the library (errors, files, ...) are nodes of their own
        node = module if folder_of[module] == "keras_recnet" else folder_of[module]
        others = {name if folder_of[name] == "keras_recnet" else folder_of[name] for name in imported}
        folders.setdefault(node, set()).update(others - {node})
    assert cycle(folders) is None


def test_a_cycle_is_found():
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) is None


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
def test_a_forbidden_import_is_found(source, module):
    assert list(violations(source, module))


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
def test_an_allowed_import_is_accepted(source, module):
    assert not list(violations(source, module))


def loaded_by(statements, **environment):
    """Return the top-level packages that a fresh interpreter has loaded after `statements`."""
    code = f"{statements}\nimport sys\nprint('LOADED', *sorted({{name.partition('.')[0] for name in sys.modules}}))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert process.returncode == 0, process.stderr
    return set(process.stdout.rpartition("LOADED")[2].split())


def test_the_core_loads_no_tensorflow():
    modules = [module for _, module in sources() if part_of(module) in CORE]
    loaded = loaded_by("\n".join(f"import {module}" for module in modules), KERAS_BACKEND="jax")
    assert "keras" in loaded
    assert "tensorflow" not in loaded


def test_training_on_jax_needs_no_tensorflow():
    loaded = loaded_by(
        "import sys\nsys.modules['tensorflow'] = None\nimport keras_recnet.training.session\n"
        "import keras_recnet.training.saliency_task, keras_recnet.training.cosaliency_task\n"
        "from keras_recnet.pipelines import SaliencyGroups, SaliencyPairs",
        KERAS_BACKEND="jax",
    )
    assert "jax" in loaded


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
        "from keras_recnet.export.serving import client, codec, grpc_client, rest_client",
        "from keras_recnet.bench import benchmark, discovery, report, with_litert, with_onnx, worker",
    ],
)
def test_these_statements_load_neither_keras_nor_tensorflow(statements):
    assert not loaded_by(statements) & FRAMEWORKS
