import errno
import json
import shutil
import sys

import numpy as np
import pytest

from keras_recnet.errors import ConfigError, DiskError, MissingExtraError, PresetError
from keras_recnet.export import ConversionError, export_model, exporting, verification
from keras_recnet.files import sha256


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def quick(monkeypatch):
    """An export without a conversion: `make` writes a file, and the proof finds what it is told to find."""

    def make(**asked):
        artifact = asked["artifact"]
        if asked["kind"] == "savedmodel":
            artifact += "/saved_model.pb"
        path = exporting.Path(artifact)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"an artifact")
        made = {"model": {"class": "RecNet"}, "signatures": {}, "versions": {}, "licence": "for research"}
        (exporting.Path(asked["calls"]) / "made.json").write_text(json.dumps(made))

    found = {"differences": [], "loading": 0.0, "versions": {"tensorflow": "9"}}
    monkeypatch.setattr(exporting, "_make", make)
    monkeypatch.setattr(verification, "run", lambda *arguments: None)
    monkeypatch.setattr(verification, "compare", lambda *arguments: dict(found))


def test_savedmodels_get_the_next_number(quick, tiny_preset, tmp_path):
    out = tmp_path / "serving" / "tiny"
    for number in ("1", "2"):
        told = export_model(tiny_preset, out, format="savedmodel")
        assert told["folder"] == str(out / number)
    shutil.rmtree(out / "1")
    (out / "7").mkdir()
    export_model(tiny_preset, out, format="savedmodel")
    assert sorted(path.name for path in out.iterdir()) == ["2", "7", "8"]
    assert contents(out / "8") == ["export.json", "saved_model.pb"]


def test_a_litert_export_replaces_the_one_before(quick, tiny_preset, tmp_path):
    out = tmp_path / "phone"
    out.mkdir()
    for name in ("model.tflite", "export.json"):
        (out / name).write_text("old")
    export_model(tiny_preset, out, format="litert")
    assert contents(out) == ["export.json", "model.tflite"]
    assert (out / "model.tflite").read_bytes() == b"an artifact"


def test_the_description_names_model_files_and_sums(quick, tiny_preset, tmp_path):
    card = shutil.copytree(tiny_preset, tmp_path / "preset") / "CARD.md"
    card.write_text("For research.")
    told = export_model(card.parent, tmp_path / "out", format="savedmodel")
    described = json.loads((tmp_path / "out" / "1" / "export.json").read_text())
    assert {**described, "folder": told["folder"]} == told
    assert described["model"]["name"] == "preset"
    assert described["model"]["weights_sha256"] == sha256(tiny_preset / "model.weights.h5")
    assert described["licence"] == "for research"
    assert (described["format"], described["precision"]) == ("savedmodel", "float32")
    for name, file in described["files"].items():
        assert sha256(tmp_path / "out" / "1" / name) == file["sha256"]
    assert sorted(described["files"]) == ["CARD.md", "saved_model.pb"]


@pytest.mark.parametrize("existed", [True, False])
def test_a_failed_proof_leaves_nothing(quick, monkeypatch, tiny_preset, tmp_path, existed):
    def fails(*arguments):
        raise ConversionError("serving_default: `saliency` is not what Keras computes")

    monkeypatch.setattr(verification, "compare", fails)
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    with pytest.raises(ConversionError, match="not what Keras computes"):
        export_model(tiny_preset, out, format="savedmodel")
    assert out.exists() == existed
    assert contents(tmp_path) == []


def test_a_full_disk_is_named_and_leaves_nothing(quick, monkeypatch, tiny_preset, tmp_path):
    def full(**asked):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "_make", full)
    with pytest.raises(DiskError, match=r"out: the disk is full\. Free some space"):
        export_model(tiny_preset, tmp_path / "out", format="litert")
    assert contents(tmp_path) == []


def test_a_crashed_conversion_says_how(tiny_preset, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho the converter crashed >&2\nexit 139\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ConversionError, match=r"savedmodel failed \(status 139\):\nthe converter crashed"):
        export_model(tiny_preset, tmp_path / "out", format="savedmodel")
    (tmp_path / "python").write_text("#!/bin/sh\necho 'write: No space left on device' >&2\nexit 1\n")
    with pytest.raises(DiskError, match="the disk is full"):
        export_model(tiny_preset, tmp_path / "out", format="savedmodel")


def test_refuses_what_it_cannot_write_to(tiny_preset, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="a file stands there"):
        export_model(tiny_preset, file, format="litert")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_text("mine")
    for format in ("litert", "savedmodel"):
        with pytest.raises(ConfigError, match=rf"not the folder of an earlier {format} export, it holds holiday\.jpg"):
            export_model(tiny_preset, folder, format=format)
    assert (folder / "holiday.jpg").read_text() == "mine"


def test_refuses_unknown_words(tiny_preset, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="Received: format='onnx'"):
        export_model(tiny_preset, tmp_path / "out", format="onnx")
    with pytest.raises(ConfigError, match="Received: precision='int4'"):
        export_model(tiny_preset, tmp_path / "out", format="litert", precision="int4")
    with pytest.raises(ConfigError, match="Received: input_dtype='int8'"):
        export_model(tiny_preset, tmp_path / "out", format="litert", input_dtype="int8")
    with pytest.raises(ConfigError, match="`input_dtype` is for LiteRT"):
        export_model(tiny_preset, tmp_path / "out", format="savedmodel", input_dtype="uint8")
    with pytest.raises(PresetError, match="Did you mean 'recnet_lite0'"):
        export_model("recnet_lite", tmp_path / "out", format="litert")
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-recnet\[tensorflow\]"'):
        export_model(tiny_preset, tmp_path / "out", format="litert")
    assert contents(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"signatures": ["encoded", "nonsense"]}, "no such signature 'nonsense'. This model has in this format: serv"),
        ({"size": 100}, r"`image_size` must be a multiple of 8. Received: image_size=\[100, 100\]"),
    ],
)
def test_what_the_model_cannot_do_is_one_line(tiny_preset, tmp_path, arguments, message):
    with pytest.raises(ConversionError, match=message) as raised:
        export_model(tiny_preset, tmp_path / "out", format="savedmodel", **arguments)
    assert "Traceback" not in str(raised.value)
    assert contents(tmp_path) == []


def test_compare_finds_what_is_wrong(tmp_path):
    def write(name, value):
        np.save(tmp_path / name, value)
        return name

    def told(output, *, alone=True):
        result = {"milliseconds": 2.0, "outputs": {"saliency": output}}
        described = {"loading": 0.1, "versions": {}, "alone": alone, "results": [result]}
        (tmp_path / "results.json").write_text(json.dumps(described))

    expected = np.zeros((1, 4, 4, 1))
    (tmp_path / "calls.json").write_text(json.dumps({"calls": [{"signature": "serving_default"}]}))
    (tmp_path / "expected.json").write_text(json.dumps([{"saliency": write("expected.npy", expected)}]))
    near = expected.copy()
    near[0, 0, 0, 0] = 0.16
    told(write("near.npy", near))
    (row,) = verification.compare(tmp_path, 0.011)["differences"]
    assert (row["mean"], row["max"]) == pytest.approx((0.01, 0.16))
    with pytest.raises(ConversionError, match=r"may differ by 0\.009 on average\. Received: 0\.01 \(largest 0\.16\)"):
        verification.compare(tmp_path, 0.009)
    told(write("near.npy", near), alone=False)
    with pytest.raises(ConversionError, match="imported keras_recnet"):
        verification.compare(tmp_path, 0.011)
    told(write("nan.npy", near * np.nan))
    with pytest.raises(ConversionError, match="Received: nan"):
        verification.compare(tmp_path, 0.011)
    told(write("small.npy", near[:, :2]))
    with pytest.raises(ConversionError, match="another shape than Keras'"):
        verification.compare(tmp_path, 0.011)
