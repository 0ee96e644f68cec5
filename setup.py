"""Package folders of the distribution; `pyproject.toml` has everything else.

`pipelines/` and `export/` are top-level folders of the repository, but such general names must not end up in
site-packages: they are installed and imported as `keras_recnet.pipelines` and `keras_recnet.export`.
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
