import gzip
import json
import re

import pytest

from keras_recnet.cli import main
from keras_recnet.errors import ConfigError
from keras_recnet.export import export_model
from keras_recnet.export.web import site as sites
from keras_recnet.files import sha256

LIMIT = 15e6  # bytes that a visitor downloads at most, for a photo and a group


@pytest.fixture(scope="module")
def exported(tiny_preset, tiny_group_preset, tmp_path_factory):
    """A page of the tiny presets, and the result of `export_model`."""
    out = tmp_path_factory.mktemp("web") / "site"
    return out, export_model(tiny_preset, out, format="web", group_preset=tiny_group_preset)


def test_an_export_verifies_both_networks(exported):
    out, report = exported
    saliency, cosaliency = report["networks"]
    assert (saliency["name"], saliency["precision"]) == ("tiny", "float32")
    assert (cosaliency["name"], cosaliency["precision"]) == ("tiny_group", "float32")
    for network in report["networks"]:
        (row,) = network["verification"]["differences"]
        assert row["output"] == "saliency"
        assert row["mean"] <= row["tolerance"] == 1e-4
    assert {**json.loads((out / "export.json").read_text()), "folder": str(out)} == report
    for name, file in report["files"].items():
        assert sha256(out / name) == file["sha256"]


def test_a_site_describes_its_networks(exported):
    out, _ = exported
    site = json.loads((out / "site.json").read_text())
    saliency, cosaliency = site["networks"]["saliency"], site["networks"]["cosaliency"]
    assert saliency["attention"]["size"] == [8, 8]
    assert cosaliency["attention"] is None
    for network in (saliency, cosaliency):
        assert (out / network["file"]).stat().st_size == network["bytes"]
        assert sha256(out / network["file"]) == network["sha256"]
    assert "models/tiny.tflite: that of the data" in (out / "LICENSES.txt").read_text()


def test_an_export_replaces_an_earlier_page(exported, tiny_group_preset, tmp_path):
    out = tmp_path / "site"
    (out / "models").mkdir(parents=True)
    (out / "models" / "old.tflite").write_bytes(b"old")
    (out / "index.html").write_text("old")
    report = export_model(tiny_group_preset, out, format="web")
    assert [network["name"] for network in report["networks"]] == ["tiny_group"]
    assert [path.name for path in (out / "models").iterdir()] == ["tiny_group.tflite"]
    assert (out / "index.html").read_bytes() == (exported[0] / "index.html").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, r"`precision` must be one of \('int8', 'float32'\)"),
        ({"precision": "int8"}, "int8 needs a folder of photos"),
        ({"signatures": ["encode"]}, "`signatures` is not for pages"),
        ({"group_preset": "recnet_lite0"}, "must be a co-saliency preset. Received: group_preset='recnet_lite0'"),
    ],
)
def test_wrong_arguments_are_refused(tiny_preset, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        export_model(tiny_preset, tmp_path / "site", format="web", **options)
    assert not list(tmp_path.iterdir())


def test_a_group_preset_is_only_for_pages_of_saliency_presets(tiny_preset, tiny_group_preset, tmp_path):
    with pytest.raises(ConfigError, match=r"`group_preset` is for the format 'web'\. Received: format='litert'"):
        export_model(tiny_preset, tmp_path / "out", format="litert", group_preset=tiny_group_preset)
    with pytest.raises(ConfigError, match="`group_preset` is not needed"):
        export_model(tiny_group_preset, tmp_path / "out", format="web", group_preset=tiny_group_preset)


def test_the_command_reports_each_network(monkeypatch, tmp_path, capfd):
    row = {"signature": "s", "output": "o", "mean": 0, "max": 0, "tolerance": 1, "milliseconds": 2}
    networks = [
        {"name": name, "precision": "int8", "verification": {"differences": [row], "loading": 0.1}}
        for name in ("one", "two")
    ]
    report = {"format": "web", "networks": networks, "files": {"a": {"bytes": 3e6}}, "folder": "out"}
    given = {}
    monkeypatch.setattr("keras_recnet.export.export_model", lambda *_, **options: given.update(options) or report)
    assert main.main(["export", "recnet_lite0", "--format", "web", "--group-preset", "other", "-o", "out"]) == 0
    errors = capfd.readouterr().err
    assert "one, int8, loads in 0.1 s" in errors
    assert "two, int8, loads in 0.1 s" in errors
    assert "web, 3.0 MB -> out" in errors
    assert given["group_preset"] == "other"


def test_every_file_that_the_page_names_is_part_of_the_site(shipped_site):
    for name in ("index.html", "page.js", "worker.js", "images.js", "cutout.js", "litert/litert.js"):
        text = (shipped_site / name).read_text(encoding="utf-8")
        named = re.findall(r"""(?:src|href)="([^"]+)"|(?:from|import\(|URL\() ?["']([^"'$]+)["']""", text)
        assert named or name in ("images.js",)
        for address in filter(None, (part for pair in named for part in pair)):
            assert ((shipped_site / name).parent / address).is_file(), (name, address)
    assert "://" not in (shipped_site / "index.html").read_text(encoding="utf-8")


def test_litert_js_is_the_locked_version(shipped_site):
    lock = json.loads((sites.HERE / "package-lock.json").read_text())
    assert lock["packages"][""]["dependencies"] == {"@litertjs/core": "2.5.3"}
    for build in ("litert_wasm_internal", "litert_wasm_compat_internal"):
        wasm = gzip.decompress((shipped_site / "litert" / f"{build}.wasm.gz").read_bytes())
        assert wasm[:4] == b"\0asm"
    assert "sourceMappingURL" not in (shipped_site / "litert" / "litert.js").read_text()


def test_a_visit_downloads_at_most_15_mb(shipped_site):
    files = [path for path in shipped_site.rglob("*") if path.is_file() and "compat" not in path.name]
    assert sum(path.stat().st_size for path in files) <= LIMIT
    assert sum(path.stat().st_size for path in (sites.HERE / "litert").iterdir()) <= 12e6
