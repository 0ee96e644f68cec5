import json
import shutil
from pathlib import Path

import pytest

from keras_recnet import export
from keras_recnet.bench import candidates
from keras_recnet.bench.discovery import find
from keras_recnet.errors import ConfigError, MissingExtraError, PresetError


@pytest.fixture
def exports(monkeypatch):
    """Replace the slow export with a mock that writes a small file. Returns the list of calls."""
    calls = []

    def export_model(source, out, *, format, precision, size, signatures):
        calls.append((format, precision, size, signatures))
        folder = out / "1" if format == "savedmodel" else out
        folder.mkdir(parents=True)
        (folder / "model.tflite").write_bytes(b"1234567")
        return {"folder": str(folder)}

    monkeypatch.setattr(export, "export_model", export_model, raising=False)
    return calls


def variants(result):
    return [(candidate.engine, candidate.precision) for candidate in result]


def test_a_preset_has_a_candidate_per_file(tiny_preset, tmp_path, exports):
    result = find(str(tiny_preset), workspace=tmp_path)
    assert variants(result) == [("litert", "float16"), ("keras", "float32")]
    litert, keras = result
    assert litert.source == str(tiny_preset / "model.tflite")
    assert litert.bytes == (tiny_preset / "model.tflite").stat().st_size
    assert keras.source == str(tiny_preset)
    assert keras.bytes == (tiny_preset / "model.weights.h5").stat().st_size
    assert {(each.network, each.size, each.takes_groups) for each in result} == {("tiny", (64, 64), False)}
    assert not exports


def test_missing_files_of_all_engines_and_precisions_are_exported(tiny_preset, tmp_path, exports):
    messages = []
    engines, precisions = ["litert", "savedmodel", "keras"], ["float16", "float32"]
    result = find(str(tiny_preset), engines=engines, precisions=precisions, workspace=tmp_path, log=messages.append)
    assert variants(result) == [(engine, precision) for engine in engines for precision in precisions]
    serving = ["serving_default"]
    assert exports == [
        ("litert", "float32", None, None),
        ("savedmodel", "float16", None, serving),
        ("savedmodel", "float32", None, serving),
    ]
    assert len(messages) == 3
    assert result[1].source == str(tmp_path / "litert-float32" / "model.tflite")
    assert (result[2].source, result[2].bytes) == (str(tmp_path / "savedmodel-float16" / "1"), 7)


def test_a_different_input_size_requires_an_export(tiny_preset, tmp_path, exports):
    (litert,) = find(str(tiny_preset), engines=["litert"], size=(96, 64), workspace=tmp_path)
    assert exports == [("litert", "float16", (96, 64), None)]
    assert litert.size == (96, 64)
    (keras,) = find(str(tiny_preset), size=(96, 64), workspace=tmp_path)
    assert (keras.engine, keras.size) == ("keras", (96, 64))


def test_a_cosaliency_preset_is_exported_with_all_signatures(tiny_group_preset, tmp_path, exports):
    (served,) = find(str(tiny_group_preset), engines=["savedmodel"], workspace=tmp_path)
    assert served.takes_groups
    assert set(exports[0][3]) == {"group", "encode", "step", "decode"}


def test_a_shipped_preset_has_a_litert_file(tmp_path):
    (litert,) = find("recnet_lite0", engines=["litert"], workspace=tmp_path)
    assert (litert.precision, litert.size) == ("float16", (320, 320))


def test_int8_is_the_file_of_the_preset(tiny_preset, tmp_path, exports):
    result = find("recnet_lite0", engines=["litert"], precisions=["float16", "int8"], workspace=tmp_path)
    assert variants(result) == [("litert", "float16"), ("litert", "int8")]
    assert [Path(candidate.source).name for candidate in result] == ["model.tflite", "model.int8.tflite"]
    assert result[1].bytes < 0.7 * result[0].bytes
    with pytest.raises(ConfigError, match="add --engine litert"):
        find("recnet_lite0", precisions=["int8"], workspace=tmp_path)
    for preset, size in ((str(tiny_preset), None), ("recnet_lite0", (64, 64))):
        with pytest.raises(ConfigError, match="Export the preset with --precision int8 and --calibration"):
            find(preset, engines=["litert"], precisions=["int8"], size=size, workspace=tmp_path)
    assert not exports


@pytest.fixture
def litert_export(tiny_preset, tmp_path):
    folder = tmp_path / "litert_export"
    folder.mkdir()
    shutil.copy(tiny_preset / "model.tflite", folder)
    metadata = {
        "precision": "float16",
        "model": {"name": "tiny", "class": "RecNet", "task": "saliency", "image_size": [64, 64]},
    }
    (folder / "export.json").write_text(json.dumps(metadata))
    return folder


@pytest.fixture
def saved_model_export(tmp_path):
    for version in ("2", "10", "9"):
        (tmp_path / "served" / version).mkdir(parents=True)
        (tmp_path / "served" / version / "saved_model.pb").write_bytes(b"123")
    metadata = {
        "precision": "float16",
        "model": {"name": "group", "class": "RCAUNet", "task": "cosaliency", "image_size": [64, 96]},
    }
    (tmp_path / "served" / "10" / "export.json").write_text(json.dumps(metadata))
    return tmp_path / "served"


def test_an_export_is_one_candidate(litert_export, saved_model_export, tmp_path):
    (litert,) = find(str(litert_export), workspace=tmp_path)
    assert (litert.network, litert.engine, litert.precision, litert.takes_groups) == (
        "tiny",
        "litert",
        "float16",
        False,
    )
    (served,) = find(str(saved_model_export), engines=["savedmodel"], size=(64, 96), workspace=tmp_path)
    assert (served.network, served.engine, served.precision, served.takes_groups) == (
        *("group", "savedmodel", "float16", True),
    )
    assert served.source == str(saved_model_export / "10")
    assert served.size == (64, 96)
    assert served.bytes == 3 + (saved_model_export / "10" / "export.json").stat().st_size


def test_an_export_without_metadata_is_still_found(litert_export, saved_model_export, tmp_path):
    for file in (litert_export / "export.json", saved_model_export / "10" / "export.json"):
        file.unlink()
    assert find(str(litert_export), workspace=tmp_path)[0].network == "litert_export"
    (served,) = find(str(saved_model_export), size=(32, 32), workspace=tmp_path)
    assert (served.network, served.precision, served.size) == ("served", "float32", (32, 32))


def test_an_export_that_does_not_match_raises_an_error(litert_export, tmp_path):
    for options, message in (
        ({"engines": ["litert", "keras"]}, "is a litert export .* Received: --engine keras"),
        ({"precisions": ["float32"]}, "of precision float16.* Received: --precision float32"),
        ({"size": (96, 96)}, "for images of 64×64.* Received: --size 96x96"),
    ):
        with pytest.raises(ConfigError, match=message):
            find(str(litert_export), **options, workspace=tmp_path)
    (litert_export / "export.json").write_text("{")
    with pytest.raises(ConfigError, match=r"export\.json: not valid JSON"):
        find(str(litert_export), workspace=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PresetError, match="neither a preset nor an export"):
        find(str(tmp_path / "empty"), workspace=tmp_path)


def test_a_missing_preset_or_file_raises_an_error(tiny_preset, tmp_path):
    with pytest.raises(PresetError, match="Did you mean 'recnet_lite0'"):
        find("recnet_lite", workspace=tmp_path)
    folder = shutil.copytree(tiny_preset, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    del config["files"]["model.weights.h5"]
    (folder / "config.json").write_text(json.dumps(config))
    assert variants(find(str(folder), workspace=tmp_path)) == [("litert", "float16")]
    with pytest.raises(PresetError, match=r"no model\.weights\.h5"):
        find(str(folder), engines=["keras"], workspace=tmp_path)


def test_a_missing_package_raises_an_error(monkeypatch, tmp_path, write_onnx):
    file = str(write_onnx(tmp_path / "peer.onnx", (1, 3, 8, 8)))
    assert candidates.peer(file).network == "peer"
    with pytest.raises(ConfigError, match="no such file"):
        candidates.peer(str(tmp_path / "gone.onnx"))
    monkeypatch.setattr(candidates.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install onnxruntime"):
        candidates.peer(file)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-recnet\[tensorflow\]"'):
        candidates.product(8)


def test_a_folder_does_not_hide_the_shipped_preset_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / "recnet_lite0").mkdir()
    monkeypatch.chdir(tmp_path)
    assert {candidate.network for candidate in find("recnet_lite0", workspace=tmp_path / "work")} == {"recnet_lite0"}
