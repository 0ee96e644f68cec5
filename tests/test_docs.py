"""Generated pages of the documentation."""

import importlib.util
from pathlib import Path

import pytest

from keras_recnet.cli.main import cli
from keras_recnet.training.config import loading

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def build():
    pytest.importorskip("griffe")
    pytest.importorskip("latex2mathml")
    spec = importlib.util.spec_from_file_location("build", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_page_has_every_key(build):
    page = build.configuration_page()
    assert "see the text" not in page
    for task, config in loading.CONFIGS.items():
        section = page.partition(f"## `task: {task}`")[2].partition("## `task:")[0]
        for key in loading.all_keys(config):
            assert f"| `{key.rpartition('.')[2]}` |" in section


def test_the_commands_page_has_every_option(build):
    page = build.commands_page()
    for name, command in cli.commands.items():
        section = page.partition(f"## `keras-recnet {name}`")[2].partition("\n## ")[0]
        for option in command.params:
            if option.param_type_name == "option":
                assert option.opts[-1] in section


def test_the_api_pages_have_every_public_name(build):
    for title, entries in build.API.items():
        page = build.api_page(title, entries)
        for entry in entries:
            assert f"keras_recnet.{entry}" in page
    assert "::: keras_recnet.layers.Fusion\n" in build.api_page("Layers", ("layers",))


def test_links_lead_to_pages_of_the_site(build):
    text = "[a](../CONTRIBUTING.md#start) [b](export.md) [code](../setup.py) [c](https://a.b) ![d](assets/maps.jpg)"
    page = build.PAGES / "prediction.md"
    assert build.with_site_links(text, page, None) == (
        "[a](contributing.md#start) [b](export.md) `code` [c](https://a.b) ![d](assets/maps.jpg)"
    )
    with pytest.raises(ValueError, match=r"there is no missing\.md"):
        build.with_site_links("[x](missing.md)", page, None)


def test_math_outside_code_becomes_mathml(build):
    text = build.with_math("$x$ costs `$5` and $$y$$")
    assert text.startswith("<span><math")
    assert "`$5`" in text
    assert '<div class="math"><math' in text
