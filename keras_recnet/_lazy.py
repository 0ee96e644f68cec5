"""Lazy imports of public names (PEP 562): `__init__.pyi` lists them for the interpreter and for type checkers."""

import ast
import importlib
import pkgutil
import sys
from collections.abc import Callable


def attach(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a package whose public names are imported on first use.

    The public names are those that the package's `__init__.pyi` imports. A name imported from the package itself is a
    public submodule.

    Args:
        package: `__name__` of the package.
    """
    stub = ast.parse(pkgutil.get_data(package, "__init__.pyi"))
    origins = {
        alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }

    def __getattr__(name):
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if origins[name] == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(origins[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    public = sorted(origins)
    return __getattr__, lambda: public, public
