import itertools
import json
import re

import pytest

from keras_recnet import presets
from keras_recnet.errors import PresetError

CONFIG = {"task": "saliency", "class": "RecNet", "arguments": {"image_size": [64, 96]}, "image_size": [64, 96]}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(b"weights")
    presets.write_config(folder, CONFIG, ["model.tflite"])
    return folder


def test_find_returns_a_preset_whose_files_are_checked(folder):
    preset = presets.find(folder)
    assert preset.name == "mine"
    assert preset.has("model.tflite")
    assert not preset.has("model.weights.h5")
    assert preset.file("model.tflite").read_bytes() == b"weights"


@pytest.mark.parametrize("damage", [b"Weights", b"weight"])
def test_a_changed_file_is_refused(folder, damage):
    (folder / "model.tflite").write_bytes(damage)
    with pytest.raises(PresetError, match=r"model\.tflite: wrong checksum"):
        presets.find(folder).file("model.tflite")


def test_a_missing_file_is_named_in_the_error(folder):
    (folder / "model.tflite").unlink()
    with pytest.raises(PresetError, match=r"model\.tflite: missing"):
        presets.find(folder).file("model.tflite")
    with pytest.raises(PresetError, match=r"no CARD\.md"):
        presets.find(folder).file("CARD.md")


def test_an_unknown_name_suggests_the_closest_one(monkeypatch, folder):
    monkeypatch.setattr(presets, "SHIPPED", folder.parent)
    assert presets.find("mine").folder == folder
    with pytest.raises(PresetError, match="Did you mean 'mine'"):
        presets.find("mime")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"files": {}, "format": 99}', "[" * 100_000, '{"format": 1' + "0" * 5000 + "}"]
)
def test_an_invalid_config_is_named_in_the_error(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(PresetError, match=r"config\.json"):
        presets.find(folder)


MISSING = object()


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        *itertools.product(("task", "class", "arguments", "image_size", "files"), (MISSING, None, 3)),
        ("task", ["saliency"]),
        ("task", "cosaliency"),
        ("class", "RCAUNet"),
        ("image_size", [64]),
        ("image_size", [64, "96"]),
        ("image_size", [64.0, 96]),
        ("image_size", [0, 96]),
        ("image_size", [96, 64]),
        ("arguments.image_size", {}),
        ("files", ["model.tflite"]),
        ("files", {"../model.tflite": {"bytes": 1, "sha256": ""}}),
        ("files.model.tflite", None),
        ("files.model.tflite.bytes", MISSING),
        ("files.model.tflite.bytes", True),
        ("files.model.tflite.sha256", 7),
        ("fusion", ["average"]),
        ("training", 1),
        ("format", []),
    ],
)
def test_an_invalid_entry_is_named_in_the_error(folder, keys, value):
    config = json.loads((folder / "config.json").read_text())
    first, *rest = keys.replace("model.tflite", "model/tflite").split(".")
    entry, names = config, [name.replace("/", ".") for name in (first, *rest)]
    for name in names[:-1]:
        entry = entry[name]
    entry[names[-1]] = value
    if value is MISSING:
        del entry[names[-1]]
    (folder / "config.json").write_text(json.dumps(config))
    named = "class" if keys == "task" and value == "cosaliency" else keys.removeprefix("arguments.")
    with pytest.raises(PresetError, match=rf"config\.json: {re.escape(named)}: .*(Received|missing|[Uu]pgrade)"):
        presets.find(folder)


def test_a_folder_without_config_is_not_a_preset(tmp_path):
    with pytest.raises(PresetError, match="not a preset"):
        presets.find(tmp_path)


def test_every_shipped_preset_is_complete():
    for preset in presets.available():
        for file in preset.config["files"]:
            assert preset.file(file).is_file()
        assert json.loads((preset.folder / "config.json").read_text()) == preset.config
