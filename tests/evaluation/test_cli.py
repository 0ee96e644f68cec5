"""`keras-recnet evaluate`: messages, exit status and output files."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from keras_recnet.cli import main

from .conftest import draw, save


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    from keras_recnet.evaluation import figures

    monkeypatch.setattr(figures, "write", lambda result, folder: {})


@pytest.fixture
def run(capfd, tmp_path):
    """Run `keras-recnet evaluate … -o out --jobs 1`: `run(*arguments)` -> (status, stdout, stderr)."""

    def run(*arguments):
        status = main.main(["evaluate", "-o", str(tmp_path / "out"), "--jobs", "1", *map(str, arguments)])
        return (status, *capfd.readouterr())

    return run


def test_the_table_and_the_path_of_the_report_are_printed(run, make_set, tmp_path):
    folder = make_set(["a", "b"], methods=("ours", "theirs"))
    maps = [f"--maps={method}={folder / 'maps' / method}" for method in ("ours", "theirs")]
    status, stdout, stderr = run("--masks", folder / "masks", *maps, "--published", "ecssd")
    assert status == 0
    assert "## set" in stdout
    assert "| ours | images | 2 |" in stdout
    assert "| RecNet | published, RecNet paper, Table 1 | – | 0.035 |" in stdout
    assert stderr == f"Report: {tmp_path / 'out' / 'report.html'}\n"
    assert (tmp_path / "out" / "report.html").is_file()


def test_every_fault_is_listed_and_the_rest_is_scored(run, make_set):
    folder = make_set(["a", "b", "c", "d"])
    masks, maps = folder / "masks", folder / "maps" / "ours"
    (maps / "a.png").write_text("not an image")
    (maps / "b.png").unlink()
    save(draw(9)[1], maps / "z.png")
    status, stdout, stderr = run("--masks", masks, "--maps", f"ours={maps}")
    assert status == 1
    assert "| ours | images | 2 |" in stdout
    assert "3 not scored:" in stderr
    assert f"unreadable (ours): {maps / 'a.png'}: not an image of a known format" in stderr
    assert f"missing map (ours): {masks / 'b.png'}: no map of this name in {maps}" in stderr
    assert f"map without mask (ours): {maps / 'z.png'}: no mask of this name in {masks}" in stderr
    save(draw(0)[1], maps / "a.png")
    status, _, stderr = run("--masks", masks, "--maps", f"ours={maps}", "--allow-missing")
    assert status == 0
    assert "2 missing (allowed):" in stderr
    assert "not scored" not in stderr


def test_allow_missing_lists_only_the_first_files(run, make_set, tmp_path):
    folder = make_set([f"{number:02}" for number in range(30)])
    for number in range(1, 30):
        (folder / "maps" / "ours" / f"{number:02}.png").unlink()
    maps = f"ours={folder / 'maps' / 'ours'}"
    status, _, stderr = run("--masks", folder / "masks", "--maps", maps, "--allow-missing")
    assert status == 0
    assert "29 missing (allowed):" in stderr
    assert stderr.count("missing map (ours)") == 10
    assert f"… and 19 more, listed in {tmp_path / 'out' / 'metrics.json'}" in stderr
    assert len(json.loads((tmp_path / "out" / "metrics.json").read_text())["faults"]) == 29
    status, _, stderr = run("--masks", folder / "masks", "--maps", maps)
    assert status == 1
    assert stderr.count("missing map (ours)") == 29


def test_a_list_of_data_sets_may_contain_a_grouped_one(run, make_set, tmp_path):
    make_set(["a", "b"], folder=tmp_path / "plain")
    make_set(["cat/a", "cat/b", "dog/a"], folder=tmp_path / "groups")
    path = tmp_path / "sets.yaml"
    path.write_text(
        "- {masks: plain/masks, maps: {ours: plain/maps/ours}}\n"
        "- {masks: groups/masks, maps: {ours: groups/maps/ours}, grouped: true}\n"
    )
    status, stdout, _ = run("--sets", path)
    assert status == 0
    assert "## plain" in stdout
    assert "| ours | groups | 3 |" in stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["data_sets"][1]["methods"]["ours"]["groups"]) == ["cat", "dog"]


def test_half_of_the_images_of_each_group_are_scored(run, make_set):
    folder = make_set([f"cat/{number}" for number in range(4)])
    options = ("--masks", folder / "masks", "--maps", f"ours={folder / 'maps' / 'ours'}", "--grouped")
    images = {}
    for part in ((), ("--part", "train")):
        status, stdout, _ = run(*options, "--split-seed", "0", *part)
        assert status == 0
        assert "| ours | images | 2 |" in stdout
        images[part] = stdout
    assert images[()] != images["--part", "train"]
    status, _, stderr = run(*options, "--part", "train")
    assert status == 2
    assert "--part train needs --split-seed" in stderr


def test_the_maps_of_a_preset_are_predicted_first(run, make_set, tiny_preset, tmp_path):
    folder = make_set(["a", "b", "c"], images=True)
    (folder / "images" / "b.jpg").write_bytes(b"not an image")
    (folder / "masks" / "c.png").unlink()
    options = ("--masks", folder / "masks", "--images", folder / "images", "--preset", tiny_preset)
    status, stdout, stderr = run(*options)
    assert status == 1
    assert "| tiny | images | 1 |" in stdout
    assert f"unreadable image (tiny): {folder / 'images' / 'b.jpg'}" in stderr
    assert f"image without mask (tiny): {folder / 'images' / 'c.jpg'}" in stderr
    (path,) = (tmp_path / "out" / "maps" / "set").glob("tiny-*/*.png")
    with Image.open(path) as saliency:
        assert (path.name, saliency.size, saliency.mode) == ("a.png", (48, 36), "L")
    before = path.stat().st_mtime_ns
    (folder / "images" / "b.jpg").unlink()
    (folder / "masks" / "b.png").unlink()
    assert run(*options, "--allow-missing")[0] == 0
    assert path.stat().st_mtime_ns == before
    os.utime(folder / "images" / "a.jpg")
    assert run(*options, "--allow-missing")[0] == 0
    assert path.stat().st_mtime_ns > before


def test_the_maps_of_a_cosaliency_preset_are_predicted_first(run, make_set, tiny_group_preset, tmp_path):
    names = ["birds/1", "birds/2", "cats/1"]
    folder = make_set(names, size=(64, 80), images=True)
    out = tmp_path / "out"
    options = ("--masks", folder / "masks", "--images", folder / "images", "--preset", f"ours={tiny_group_preset}")
    status, _, err = run(*options, "-o", out)
    assert status == 2
    assert "ours is a co-saliency preset and needs groups (--grouped)" in err
    status, text, _ = run(*options, "-o", out, "--grouped")
    assert status == 0
    assert "| ours | groups | 3 |" in text
    maps = sorted(out.glob("maps/*/ours-*/*/*.png"))
    assert ["/".join(path.parts[-2:]) for path in maps] == ["birds/1.png", "birds/2.png", "cats/1.png"]
    written = {path: path.stat().st_mtime_ns for path in maps}
    maps[0].unlink()  # only its group is predicted again, as a whole
    assert run(*options, "-o", out, "--grouped")[0] == 0
    assert [path.stat().st_mtime_ns > written[path] for path in maps] == [True, True, False]


def test_merged_shards_equal_one_run(run, make_set, tmp_path, monkeypatch):
    folder = make_set([f"{number:02}" for number in range(7)], methods=("ours", "theirs"))
    ours = folder / "maps" / "ours"
    (ours / "03.png").unlink()
    (ours / "05.png").write_text("not an image")
    save(draw(9)[1], ours / "extra.png")
    options = ("--masks", folder / "masks", "--maps", f"ours={ours}", "--maps", f"theirs={folder / 'maps' / 'theirs'}")
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    assert run(*options, "-o", whole)[0] == 1
    counts = {"0/3": 2 * 3 - 1, "1/3": 2 * 2, "2/3": 2 * 2 - 1}  # 03 belongs to shard 0 and 05 to shard 2
    for shard, count in counts.items():
        status, stdout, stderr = run(*options, "-o", merged, "--shard", shard)
        assert status == (0 if shard == "1/3" else 1)
        assert stdout == ""
        assert f"{count} maps scored in shard {shard} -> {merged}. When all shards are done" in stderr
        assert "extra.png" not in stderr
        assert ("missing map (ours)" in stderr, "unreadable (ours)" in stderr) == (shard == "0/3", shard == "2/3")
    assert not (merged / "metrics.json").exists()

    from keras_recnet.evaluation import workers

    def score_nothing(*_):
        raise AssertionError("a map was scored again")

    with monkeypatch.context() as patch:
        patch.setattr(workers, "_record", score_nothing)
        (ours / "05.png").unlink()
        status, stdout, stderr = run(*options, "-o", merged, "--merge")
    assert status == 1
    assert "map without mask (ours)" in stderr
    assert (merged / "per_image.csv").read_text() == (whole / "per_image.csv").read_text()
    assert (merged / "curves.csv").read_text() == (whole / "curves.csv").read_text()


def test_merging_scores_what_no_shard_has_scored(run, make_set, tmp_path):
    folder = make_set(["a", "b", "c"])
    options = ("--masks", folder / "masks", "--maps", f"ours={folder / 'maps' / 'ours'}")
    status, _, stderr = run(*options, "--merge")
    assert status == 2
    assert "no scores of shards to merge. Score them first, with --shard I/N" in stderr
    assert run(*options, "--shard", "0/2")[0] == 0
    status, stdout, _ = run(*options, "--merge")
    assert status == 0
    assert "| ours | images | 3 |" in stdout
    assert run(*options, "--merge", "--shard", "0/2")[0] == 2
    status, _, stderr = run(*options, "--shard", "4/5")
    assert status == 0
    assert "0 maps scored in shard 4/5" in stderr


def test_a_shard_of_a_grouped_data_set_has_whole_groups(run, make_set, tiny_group_preset, tmp_path):
    names = ["birds/1", "birds/2", "cats/1", "dogs/1", "dogs/2"]
    folder = make_set(names, size=(64, 80), images=True)
    (folder / "masks" / "dogs" / "2.png").unlink()
    options = ("--masks", folder / "masks", "--images", folder / "images", "--preset", f"ours={tiny_group_preset}")
    status, _, stderr = run(*options, "--grouped", "--shard", "1/2")
    assert status == 0
    assert "1 maps scored in shard 1/2" in stderr
    written = sorted((tmp_path / "out" / "maps").glob("*/ours-*/*/*.png"))
    assert ["/".join(path.parts[-2:]) for path in written] == ["cats/1.png"]
    status, _, stderr = run(*options, "--grouped", "--shard", "0/2")
    assert status == 0
    assert "3 maps scored in shard 0/2" in stderr
    status, stdout, stderr = run(*options, "--grouped", "--merge")
    assert status == 1
    assert "image without mask (ours)" in stderr
    assert "| ours | groups | 4 |" in stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--masks'"),
        (["--masks", "{set}/masks"], "nothing to score. Add --maps NAME=DIR, or --preset and --images"),
        (["--masks", "{set}/masks", "--maps", "ours="], "--maps expects NAME=DIR"),
        (["--masks", "{set}/masks", "--maps", "a={set}", "--maps", "a={set}"], "two methods are named 'a'"),
        (["--masks", "{set}/gone", "--maps", "a={set}/maps"], "gone: no such folder"),
        (["--masks", "{set}/masks", "--maps", "a={set}/empty"], "empty: no maps of a in this folder"),
        (["--masks", "{set}/masks", "--maps", "a={set}"], "no map has the name of a mask"),
        (["--masks", "{set}/masks", "--maps", "a={set}/maps/ours", "--grouped"], "is not in a group"),
        (["--masks", "{set}/masks", "--maps", "a={set}/maps/ours", "--published", "X"], "No published numbers for 'X'"),
        (["--masks", "{set}/masks", "--preset", "recnet_lite0"], "needs images. Add their folder (--images DIR)"),
        (["--masks", "{set}/masks", "--images", "{set}/masks", "--preset", "nothing"], "nothing"),
        (["--masks", "{set}/masks", "--noise-from", "{set}"], "--noise-from needs --subgroups"),
        (["--masks", "{set}/masks", "--subgroups", "2"], "--subgroups needs --preset"),
        (["--masks", "{set}/masks", "--preset", "rcau_lite0", "--subgroups", "2"], "subgroups need groups (--grouped)"),
        (["--masks", "{set}/masks", "--fusion", "subtract"], "--fusion needs a RecNet preset"),
        (["--masks", "{set}/masks", "--fusion", "average,max"], "must be one or more of subtract, foreground"),
        (["--sets", "{set}/gone.yaml"], "gone.yaml: cannot be read"),
        (["--sets", "{set}/sets.yaml", "--masks", "x"], "--masks cannot be combined with --sets"),
    ],
)
def test_invalid_arguments_are_reported(run, make_set, tmp_path, arguments, message):
    folder = make_set(["a"])
    (folder / "empty").mkdir()
    status, _, stderr = run(*(argument.format(set=folder) for argument in arguments))
    assert status == 2
    assert message in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_ctrl_c_keeps_all_scores(make_set, tmp_path):
    folder = make_set([f"{number:03}" for number in range(80)], size=(200, 300))
    command = [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {MAIN}"]
    command += ["evaluate", "--masks", folder / "masks", "--maps", folder / "maps" / "ours", "-o", tmp_path / "out"]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        log = tmp_path / "out" / "per_image.jsonl"
        while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 10):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGINT)  # also sent to the workers, as a terminal does
        stderr = process.communicate()[1]
    assert process.returncode == 130, stderr
    assert stderr.endswith("Interrupted. All scores so far are kept; run the same command to resume.\n")
    assert log.read_bytes().count(b"\n") >= 10


MAIN = "import sys; from keras_recnet.cli import main; sys.exit(main.main())"


@pytest.mark.parametrize("package", ["py_sod_metrics", "jinja2", "matplotlib"])
def test_a_missing_package_is_reported_with_the_extra(tmp_path, package):
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('No module named {package}', name='{package}')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))}
    command = [sys.executable, "-m", "keras_recnet", "evaluate", "--masks", "x", "--maps", "y", "-o", "out"]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert process.returncode == 2, process.stderr
    assert 'pip install "keras-recnet[evaluation]"' in process.stderr
    assert "Traceback" not in process.stderr


def test_the_shipped_preset_is_accurate_on_ecssd_100(run, data_folder, tmp_path):
    """Score the shipped preset on real data; the limits leave a margin to its published results."""
    folder = data_folder / "ECSSD-100"
    status, _, _ = run("--masks", folder / "masks", "--images", folder / "images", "--preset", "recnet_lite0")
    assert status == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    scores = metrics["data_sets"][0]["methods"]["recnet_lite0"]
    assert scores["images"] == 100
    assert scores["mae"] < 0.05
    assert scores["s_measure"] > 0.9
    assert (tmp_path / "out" / "report.html").stat().st_size < 5_000_000
    assert np.isfinite([scores[key] for key in ("max_f", "weighted_f", "max_e")]).all()
