"""Where the packages lie; everything else about the distribution stands in `pyproject.toml`.

`pipelines/` and `export/` stand at the top of the tree, but names so general must not land in site-packages: they are
installed as `keras_recnet.pipelines` and `keras_recnet.export`, and imported so everywhere.
"""

from setuptools import find_packages, setup

PACKAGE_DIR = {
    "keras_recnet": "keras_recnet",
    "keras_recnet.pipelines": "pipelines",
    "keras_recnet.export": "export",
}

setup(
    package_dir=PACKAGE_DIR,
    packages=[
        name
        for package, folder in PACKAGE_DIR.items()
        for name in (package, *(f"{package}.{inner}" for inner in find_packages(folder)))
    ],
)
