import pytest

from keras_recnet.export import export_model


@pytest.fixture(scope="session")
def tiny_saved_model(tiny_preset, tmp_path_factory):
    """What `export_model` says of the tiny RecNet as a SavedModel; it lies in `["folder"]`."""
    return export_model(tiny_preset, tmp_path_factory.mktemp("serving") / "tiny", format="savedmodel")


@pytest.fixture(scope="session")
def tiny_group_saved_model(tiny_group_preset, tmp_path_factory):
    """The same of the tiny RCAUNet."""
    return export_model(tiny_group_preset, tmp_path_factory.mktemp("serving") / "tiny_group", format="savedmodel")
