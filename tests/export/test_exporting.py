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
    """Replace the conversion with one that writes a small file, and the verification with one that always passes."""

    def convert(**job):
        inner = {"savedmodel": "saved_model.pb", "onnx": "model.onnx"}.get(job["kind"], "")
        path = exporting.Path(job["artifact"], inner)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"an artifact")
        report = {"model": {"class": "RecNet"}, "signatures": {}, "versions": {}, "licence": "for research"}
        (exporting.Path(job["calls"]) / "report.json").write_text(json.dumps(report))

    verified = {"differences": [], "loading": 0.0, "versions": {"tensorflow": "9"}}
    monkeypatch.setattr(exporting, "_run_worker", convert)
    monkeypatch.setattr(verification, "run", lambda *arguments: None)
    monkeypatch.setattr(verification, "compare", lambda *arguments: dict(verified))


def test_a_savedmodel_gets_the_next_free_number(quick, tiny_preset, tmp_path):
    out = tmp_path / "serving" / "tiny"
    for number in ("1", "2"):
        description = export_model(tiny_preset, out, format="savedmodel")
        assert description["folder"] == str(out / number)
    shutil.rmtree(out / "1")
    (out / "7").mkdir()
    export_model(tiny_preset, out, format="savedmodel")
    assert sorted(path.name for path in out.iterdir()) == ["2", "7", "8"]
    assert contents(out / "8") == ["export.json", "saved_model.pb"]


def test_a_litert_export_replaces_an_earlier_one(quick, tiny_preset, tmp_path):
    out = tmp_path / "phone"
    out.mkdir()
    for name in ("model.tflite", "export.json"):
        (out / name).write_text("old")
    export_model(tiny_preset, out, format="litert")
    assert contents(out) == ["export.json", "model.tflite"]
    assert (out / "model.tflite").read_bytes() == b"an artifact"


def test_an_export_replaces_all_files_of_an_earlier_one_and_keeps_hidden_files(quick, tiny_preset, tmp_path):
    out = tmp_path / "onnx"
    out.mkdir()
    for name in ("encode.onnx", "model.onnx", "CARD.md", ".gitignore"):
        (out / name).write_text("old")
    export_model(tiny_preset, out, format="onnx")
    assert contents(out) == [".gitignore", "export.json", "model.onnx"]
    assert (out / "model.onnx").read_bytes() == b"an artifact"


def test_the_description_contains_the_model_and_the_files(quick, tiny_preset, tmp_path):
    card = shutil.copytree(tiny_preset, tmp_path / "preset") / "CARD.md"
    card.write_text("For research.")
    result = export_model(card.parent, tmp_path / "out", format="savedmodel")
    described = json.loads((tmp_path / "out" / "1" / "export.json").read_text())
    assert {**described, "folder": result["folder"]} == result
    assert described["model"]["name"] == "preset"
    assert described["model"]["weights_sha256"] == sha256(tiny_preset / "model.weights.h5")
    assert described["licence"] == "for research"
    assert (described["format"], described["precision"]) == ("savedmodel", "float32")
    for name, file in described["files"].items():
        assert sha256(tmp_path / "out" / "1" / name) == file["sha256"]
    assert sorted(described["files"]) == ["CARD.md", "saved_model.pb"]


@pytest.mark.parametrize("existed", [True, False])
def test_a_failed_verification_leaves_no_files(quick, monkeypatch, tiny_preset, tmp_path, existed):
    def fails(*arguments):
        raise ConversionError("serving_default: `saliency` differs from the output of Keras")

    monkeypatch.setattr(verification, "compare", fails)
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    with pytest.raises(ConversionError, match="differs from the output of Keras"):
        export_model(tiny_preset, out, format="savedmodel")
    assert out.exists() == existed
    assert contents(tmp_path) == []


def test_a_full_disk_is_reported_and_leaves_no_files(quick, monkeypatch, tiny_preset, tmp_path):
    def full(**job):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "_run_worker", full)
    with pytest.raises(DiskError, match=r"out: the disk is full\. Free some space"):
        export_model(tiny_preset, tmp_path / "out", format="litert")
    assert contents(tmp_path) == []


def test_a_crashed_conversion_is_reported(tiny_preset, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho the converter crashed >&2\nexit 139\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ConversionError, match=r"savedmodel failed \(status 139\):\nthe converter crashed"):
        export_model(tiny_preset, tmp_path / "out", format="savedmodel")
    (tmp_path / "python").write_text("#!/bin/sh\necho 'write: No space left on device' >&2\nexit 1\n")
    with pytest.raises(DiskError, match="the disk is full"):
        export_model(tiny_preset, tmp_path / "out", format="savedmodel")


def test_a_file_and_a_folder_with_other_files_are_refused(tiny_preset, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        export_model(tiny_preset, file, format="litert")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_text("mine")
    for format in ("litert", "savedmodel"):
        with pytest.raises(
            ConfigError, match=rf"not the folder of an earlier {format} export, since it contains holiday\.jpg"
        ):
            export_model(tiny_preset, folder, format=format)
    assert (folder / "holiday.jpg").read_text() == "mine"


def test_invalid_arguments_are_refused(tiny_preset, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="Received: format='tfjs'"):
        export_model(tiny_preset, tmp_path / "out", format="tfjs")
    with pytest.raises(ConfigError, match="Received: precision='int4'"):
        export_model(tiny_preset, tmp_path / "out", format="litert", precision="int4")
    with pytest.raises(ConfigError, match="Received: input_dtype='int8'"):
        export_model(tiny_preset, tmp_path / "out", format="litert", input_dtype="int8")
    with pytest.raises(ConfigError, match="`input_dtype` is for LiteRT"):
        export_model(tiny_preset, tmp_path / "out", format="savedmodel", input_dtype="uint8")
    with pytest.raises(ConfigError, match="`max_pixels` is for SavedModels"):
        export_model(tiny_preset, tmp_path / "out", format="litert", max_pixels=100)
    with pytest.raises(PresetError, match="Did you mean 'recnet_lite0'"):
        export_model("recnet_lite", tmp_path / "out", format="litert")
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-recnet\[tensorflow\]"'):
        export_model(tiny_preset, tmp_path / "out", format="litert")
    assert contents(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"signatures": ["encoded", "nonsense"]}, "no signature 'nonsense' in this format. Choose from: serv"),
        ({"size": 100}, r"`image_size` must be a multiple of 8. Received: image_size=\[100, 100\]"),
    ],
)
def test_errors_of_the_worker_have_no_traceback(tiny_preset, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message) as raised:
        export_model(tiny_preset, tmp_path / "out", format="savedmodel", **arguments)
    assert "Traceback" not in str(raised.value)
    assert contents(tmp_path) == []


def test_compare_reports_differences(tmp_path):
    def write(name, value):
        np.save(tmp_path / name, value)
        return name

    def report(output, *, independent=True):
        result = {"milliseconds": 2.0, "outputs": {"saliency": output}}
        results = {"loading": 0.1, "versions": {}, "independent": independent, "results": [result]}
        (tmp_path / "results.json").write_text(json.dumps(results))

    expected = np.zeros((1, 4, 4, 1))
    (tmp_path / "calls.json").write_text(json.dumps({"calls": [{"signature": "serving_default"}]}))
    (tmp_path / "expected.json").write_text(json.dumps([{"saliency": write("expected.npy", expected)}]))
    received = expected.copy()
    received[0, 0, 0, 0] = 0.16
    report(write("received.npy", received))
    (row,) = verification.compare(tmp_path, 0.011)["differences"]
    assert (row["mean"], row["max"]) == pytest.approx((0.01, 0.16))
    with pytest.raises(
        ConversionError,
        match=r"differs from the output of Keras by more than 0\.009 on average\. Received: 0\.01 \(largest 0\.16\)",
    ):
        verification.compare(tmp_path, 0.009)
    report(write("received.npy", received), independent=False)
    with pytest.raises(ConversionError, match="imported keras_recnet"):
        verification.compare(tmp_path, 0.011)
    report(write("nan.npy", received * np.nan))
    with pytest.raises(ConversionError, match="Received: nan"):
        verification.compare(tmp_path, 0.011)
    report(write("small.npy", received[:, :2]))
    with pytest.raises(ConversionError, match="must have the shape"):
        verification.compare(tmp_path, 0.011)
