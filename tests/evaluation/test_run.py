import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_recnet.errors import ConfigError, DataError
from keras_recnet.evaluation import figures, workers
from keras_recnet.evaluation.datasets import DataSet
from keras_recnet.evaluation.run import evaluate
from keras_recnet.evaluation.scoring import score

from .conftest import draw, save

WRITTEN = ["metrics.json", "metrics.csv", "curves.csv", "per_image.csv", "table.md", "table.tex", "report.html"]


def data_set(folder, methods=("ours",), **options):
    return DataSet("set", folder / "masks", {method: folder / "maps" / method for method in methods}, **options)


@pytest.fixture(autouse=True)
def _no_figures(request, monkeypatch):
    """Figures take most of the time of a small run, so only tests with the fixture `figures_drawn` draw them."""
    if "figures_drawn" not in request.fixturenames:
        monkeypatch.setattr(figures, "write", lambda result, folder: {})


@pytest.fixture
def figures_drawn():
    """Draw the figures in this test."""


def kinds(evaluation):
    return sorted(fault.kind for fault in evaluation.faults)


def written(out):
    return {name: (out / name).read_bytes() for name in WRITTEN}


def test_numbers_tables_curves_and_a_report_are_written(make_set, tmp_path, figures_drawn):
    folder = make_set(["a", "b", "c"], methods=("ours", "theirs"), images=True)
    evaluation = evaluate([data_set(folder, ("ours", "theirs"), published="ECSSD")], tmp_path / "out", jobs=1)
    assert evaluation.good
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {*WRITTEN, "curves", "per_image.jsonl"}
    assert len(list((out / "curves").glob("*.svg"))) == len(list((out / "curves").glob("*.png"))) == 5
    metrics = json.loads((out / "metrics.json").read_text())
    (data_set_metrics,) = metrics["data_sets"]
    expected = np.mean([score(draw(n)[1] / 255, draw(n)[0]).values["mae"] for n in range(3)])
    assert data_set_metrics["methods"]["ours"]["mae"] == pytest.approx(expected)
    assert data_set_metrics["methods"]["ours"]["images"] == 3
    assert len(data_set_metrics["published"]) == 13
    lines = list(csv.DictReader((out / "per_image.csv").read_text().splitlines()))
    assert [(line["method"], line["name"]) for line in lines][:3] == [("ours", "a"), ("ours", "b"), ("ours", "c")]
    assert len((out / "curves.csv").read_text().splitlines()) - 1 == 2 * 256


def test_a_thousand_pairs_with_ten_faults_are_scored(make_set, tmp_path):
    names = [f"{number:04}" for number in range(1000)]
    folder = make_set(names, size=(16, 24))
    masks, maps = folder / "masks", folder / "maps" / "ours"
    (maps / "0000.png").unlink()  # a mask without a map
    (masks / "0001.png").unlink()  # a map without a mask
    (maps / "0002.png").write_bytes((maps / "0002.png").read_bytes()[:50])
    (maps / "0003.png").write_bytes(b"")
    (maps / "0004.png").write_text("not an image")
    (maps / "0005.png").unlink()
    nan = draw(5, (16, 24))[1] / 255
    nan[3, 3] = np.nan
    save(nan.astype(np.float32), maps / "0005.tif")
    (masks / "0006.png").write_bytes((masks / "0006.png").read_bytes()[:50])
    labels = draw(7, (16, 24))[0].astype(np.uint8)
    labels[0, 0] = 2
    save(labels, masks / "0007.png")  # class labels 0, 1 and 2
    (maps / "0008.png").unlink()
    np.save(maps / "0008.npy", np.full((16, 24), 3.0))
    (maps / "0009.png").chmod(0)
    if os.access(maps / "0009.png", os.R_OK):  # root can read every file
        (maps / "0009.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    # not faults, but notes
    save(np.zeros((16, 24), np.uint8), masks / "0010.png")
    save(np.full((16, 24), 255, np.uint8), masks / "0011.png")
    save(draw(12, (8, 12))[1], maps / "0012.png")
    save(draw(13, (16, 24))[1].astype(np.uint16) * 257, maps / "0013.png")
    save(np.stack([draw(14, (16, 24))[1]] * 3, -1), maps / "0014.png")

    evaluation = evaluate([data_set(folder)], tmp_path / "out")
    assert not evaluation.good
    assert kinds(evaluation) == ["map without mask", "missing map", *["unreadable"] * 8]
    for number in range(10):
        messages = [fault.message for fault in evaluation.faults if f"{number:04}." in fault.message]
        assert len(messages) == 1, (number, messages)
    (result,) = evaluation.results
    assert result.images["ours"].images == 1000 - 10 - 1
    assert result.images["ours"].distractors == 1
    notes = json.loads((tmp_path / "out" / "metrics.json").read_text())["data_sets"][0]["notes"]
    assert {note: names["ours"] for note, names in notes.items()} == {
        "distractors": ["0010"],
        "full_mask": ["0011"],
        "resized": ["0012"],
        "16-bit": ["0013"],
        "rgb": ["0014"],
    }
    report = (tmp_path / "out" / "report.html").read_text()
    assert "10 files could not be scored" in report
    assert all(f"{number:04}." in report for number in range(10))


def test_a_killed_run_resumes_with_the_same_results(make_set, tmp_path, figures_drawn):
    folder = make_set([f"{number:03}" for number in range(60)], size=(200, 300), images=True)
    evaluate([data_set(folder)], tmp_path / "whole")
    command = [sys.executable, "-m", "keras_recnet", "evaluate", "--masks", folder / "masks"]
    command += ["--name", "set", "--maps", f"ours={folder / 'maps' / 'ours'}", "-o", tmp_path / "out"]
    with subprocess.Popen([*map(str, command), "--jobs", "1"], stdout=subprocess.DEVNULL) as process:
        log = tmp_path / "out" / "per_image.jsonl"
        while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 10):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    kept = log.read_bytes()
    assert 10 <= kept.count(b"\n") < 61
    with log.open("ab") as file:
        file.write(kept.splitlines()[-1][:100])  # an incomplete line
    evaluate([data_set(folder)], tmp_path / "out")
    assert written(tmp_path / "out") == written(tmp_path / "whole")
    assert log.read_bytes().startswith(kept[: kept.rindex(b"\n")])


def test_only_changed_files_are_scored_again(make_set, tmp_path, monkeypatch):
    folder = make_set(["a", "b"], methods=("ours", "theirs"))
    scored = []
    monkeypatch.setattr(workers, "score", lambda *pair: scored.append(1) or score(*pair))

    def run(*methods):
        scored.clear()
        evaluation = evaluate([data_set(folder, methods)], tmp_path / "out", jobs=1)
        return len(scored), evaluation.results[0].images["ours"].values["mae"]

    assert run("ours")[0] == 2
    count, before = run("ours")
    assert count == 0
    assert run("ours", "theirs")[0] == 2
    path = folder / "maps/ours/a.png"
    times = path.stat()
    save(draw(77)[1], path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # with the same time stamp
    count, after = run("ours", "theirs")
    assert count == 1
    assert after != before
    save(draw(78)[0], folder / "masks/b.png")
    assert run("ours", "theirs")[0] == 2
    assert run("ours", "theirs")[0] == 0
    (tmp_path / "out" / "per_image.jsonl").write_text("another version\n")
    assert run("ours", "theirs")[0] == 4


def test_methods_with_different_files_are_not_compared(make_set, tmp_path):
    folder = make_set(["a", "b", "c"], methods=("ours", "theirs"))
    (folder / "maps/theirs/b.png").unlink()
    data_sets = [data_set(folder, ("ours", "theirs"))]
    evaluation = evaluate(data_sets, tmp_path / "out", jobs=1)
    assert not evaluation.good
    assert not evaluation.results[0].same_images
    table = (tmp_path / "out" / "table.md").read_text()
    assert "not scored on the same images" in table
    assert "**" not in table  # no best numbers if the methods cannot be compared
    evaluation = evaluate(data_sets, tmp_path / "out", jobs=1, allow_missing=True, common_only=True)
    assert evaluation.good
    assert [means.images for means in evaluation.results[0].images.values()] == [2, 2]
    assert "not scored on the same images" not in (tmp_path / "out" / "table.md").read_text()


def test_the_maps_of_presets_are_predicted(make_set, tiny_preset, tmp_path):
    folder = make_set(["a", "b"], images=True)
    presets = [str(tiny_preset), f"again={tiny_preset}"]
    evaluation = evaluate(
        [data_set(folder, images=folder / "images")], tmp_path / "out", presets=presets, jobs=1, allow_missing=True
    )
    (result,) = evaluation.results
    assert list(result.images) == ["ours", "tiny", "again"]
    assert result.images["tiny"].values == result.images["again"].values
    with pytest.raises(ConfigError, match="two methods are named 'tiny'"):
        evaluate([data_set(folder, images=folder / "images")], tmp_path / "out", presets=presets[:1] * 2)


def test_means_are_taken_over_images_and_over_groups(make_set, tmp_path):
    names = ["cat/1", "cat/2", "cat/3", "dog/1", "fish/1"]
    folder = make_set(names)
    save(np.zeros((36, 48), np.uint8), folder / "masks" / "dog" / "distractors.png")
    save(np.full((36, 48), 51, np.uint8), folder / "maps" / "ours" / "dog" / "distractors.png")
    (result,) = evaluate([data_set(folder, grouped=True)], tmp_path / "out", jobs=1).results
    single = {name: record.values for name, record in result.records["ours"].items()}
    cats = np.mean([single[f"cat/{number}"]["s_measure"] for number in (1, 2, 3)])
    assert result.groups["ours"]["cat"].values["s_measure"] == pytest.approx(cats)
    expected = np.mean([cats, single["dog/1"]["s_measure"], single["fish/1"]["s_measure"]])
    assert result.over_groups["ours"].values["s_measure"] == pytest.approx(expected)
    expected = np.mean([single[name]["s_measure"] for name in names])
    assert result.images["ours"].values["s_measure"] == pytest.approx(expected)
    assert result.images["ours"].values["distractor_mean"] == pytest.approx(0.2)
    assert (result.images["ours"].images, result.images["ours"].distractors) == (5, 1)
    # The curve of the dataset is the mean of the groups' curves, and max F is its maximum.
    curves = [group.curves["f"] for group in result.groups["ours"].values()]
    assert result.over_groups["ours"].values["max_f"] == pytest.approx(np.mean(curves, axis=0).max())
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| ours | groups | 5 |" in table
    assert "| 0.2000 |" in table


def test_a_data_set_of_distractors_has_no_other_metric(make_set, tmp_path):
    folder = make_set(["a"])
    save(np.zeros((36, 48), np.uint8), folder / "masks" / "a.png")
    (result,) = evaluate([data_set(folder)], tmp_path / "out", jobs=1).results
    assert set(result.images["ours"].values) == {"distractor_mean"}


def test_an_error_is_raised_if_no_map_could_be_scored(make_set, tmp_path):
    folder = make_set(["a"])
    (folder / "maps/ours/a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no map of ours could be scored.\n.*a.png: the file is empty"):
        evaluate([data_set(folder)], tmp_path / "out", jobs=1)


def test_a_data_set_needs_methods_and_a_unique_name(make_set, tmp_path):
    folder = make_set(["a"])
    with pytest.raises(ConfigError, match="nothing to score"):
        evaluate([data_set(folder, ())], tmp_path / "out")
    with pytest.raises(ConfigError, match="2 datasets are named 'set'"):
        evaluate([data_set(folder)] * 2, tmp_path / "out")


def test_a_killed_process_is_reported(make_set, tmp_path, monkeypatch):
    folder = make_set(["a", "b"])
    monkeypatch.setattr(workers, "run_task", _die)
    with pytest.raises(DataError, match=r"A scoring process was killed.*Run the same command to resume"):
        evaluate([data_set(folder)], tmp_path / "out")


def _die(task):
    os._exit(1)
