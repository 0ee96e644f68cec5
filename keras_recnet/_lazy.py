"""Lazy public names: a package lists what it offers, and each name is imported when it is first used."""

import importlib
from collections.abc import Callable, Mapping


def attach(
    package: str, names: Mapping[str, str], modules: tuple[str, ...] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a package whose `__init__` imports nothing itself (PEP 562).

    Args:
        package: `__name__` of the package.
        names: public name → module that defines it, relative to the package.
        modules: submodules that are public names themselves.
    """

    def __getattr__(name):
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{names[name]}"), name)
        setattr(importlib.import_module(package), name, value)
        return value

    public = sorted({*names, *modules})
    return __getattr__, lambda: public, public
