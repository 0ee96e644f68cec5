"""`keras-recnet bulk` and `keras_recnet.bulk.predict`, on a Ray session of this machine."""

import contextlib
import io
import json
import os
import re
import signal
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_recnet import GroupPredictor, Predictor
from keras_recnet.bulk import job, predict
from keras_recnet.cli import main

pa = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture
def run(tiny_preset, tiny_group_preset, capfd):
    """Run `keras-recnet bulk` with a tiny preset: `run(*arguments)` -> (status, stdout, stderr)."""

    def run(*arguments):
        preset = tiny_group_preset if "--grouped" in arguments else tiny_preset
        status = main.main(["bulk", "--preset", str(preset), *map(str, arguments)])
        return (status, *capfd.readouterr())

    return run


def decoded(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def table(folder):
    from pyarrow import parquet

    return pa.concat_tables(
        parquet.read_table(path) for path in sorted(Path(folder).glob("part-*.parquet"))
    ).to_pylist()


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.png"))


def test_files_equal_those_of_predict(run, links, tiny_preset, tmp_path, capfd):
    photos = links(20)
    (photos / "sub").mkdir()
    (photos / "sub" / "0001.jpg").write_bytes((photos / "0001.jpg").read_bytes())
    Image.open(photos / "0002.jpg").save(photos / "0002.webp")
    (photos / "bad.jpg").write_bytes(b"not an image")
    status, stdout, stderr = run(photos, "-o", tmp_path / "bulk")
    assert (status, stdout) == (1, "")
    assert "22 of 23 images in " in stderr
    assert f"1 failed:\n  {photos / 'bad.jpg'}: not an image of a known format" in stderr
    assert main.main(["predict", "--preset", str(tiny_preset), str(photos), "-o", str(tmp_path / "predict")]) == 1
    names = files_below(tmp_path / "predict")
    assert len(names) == 22
    assert {"0002.jpg.png", "0002.webp.png", "sub/0001.png"} < set(names)
    assert files_below(tmp_path / "bulk") == names
    for name in names:
        assert (tmp_path / "bulk" / name).read_bytes() == (tmp_path / "predict" / name).read_bytes()


def test_a_finished_job_is_not_repeated_and_new_images_are_added(run, links, tmp_path):
    photos, out = links(4), tmp_path / "out"
    (photos / "bad.jpg").write_bytes(b"not an image")
    assert run(photos, "-o", out)[0] == 1
    written = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert len(written) == 4
    status, _, stderr = run(photos, "-o", out)
    assert status == 1
    assert "4 of 5 images (5 skipped)" in stderr
    assert "bad.jpg: not an image" in stderr  # the error of the first run
    Image.open(photos / "0000.jpg").save(photos / "new.png")
    (photos / "bad.jpg").unlink()
    status, _, stderr = run(photos, "-o", out)
    assert status == 0
    assert "5 of 5 images (4 skipped)" in stderr
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert (out / "new.png").is_file()


def test_other_settings_or_unrelated_files_are_refused(run, links, tmp_path):
    photos, out = links(2), tmp_path / "out"
    assert run(photos, "-o", out, "--format", "parquet")[0] == 0
    status, _, stderr = run(photos, "-o", out, "--format", "parquet", "--flip")
    assert status == 2
    assert "a job with other settings (then → now): flip: None → True. Choose another folder" in stderr
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "part-00000000.parquet").touch()
    status, _, stderr = run(photos, "-o", tmp_path / "other", "--format", "parquet")
    assert status == 2
    assert "this folder already has files named part-" in stderr


def test_an_unfinished_part_is_written_again(run, links, tmp_path):
    photos, out = links(40), tmp_path / "out"
    assert run(photos, "-o", out, "--format", "parquet")[0] == 0
    parts = sorted(out.glob("part-*"))
    assert len(parts) == 3  # blocks of 16
    before = table(out)
    # as after a kill between the two files of a block
    (out / "_journal" / "00000001.json").unlink()
    status, _, stderr = run(photos, "-o", out, "--format", "parquet")
    assert status == 0
    assert "40 of 40 images (24 skipped)" in stderr
    assert sorted(path.name for path in out.glob("part-*")) == [f"part-{n:08d}.parquet" for n in (0, 2, 3)]
    assert sorted(table(out), key=lambda row: row["path"]) == sorted(before, key=lambda row: row["path"])


def test_killed_actors_and_damaged_files_leave_a_complete_table(run, links, tiny_preset, tmp_path):
    photos, out = links(400), tmp_path / "out"
    damaged = [photos / f"{number:04d}.jpg" for number in range(7, 400, 20)]
    assert len(damaged) == 20  # 5 %
    for path in damaged:
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[: len(data) // 2])
    kills = []

    def kill():
        deadline = time.monotonic() + 60
        while len(kills) < 2 and time.monotonic() < deadline:
            parts = len(list(out.glob("part-*")))
            if parts > len(kills):
                for pid in actors():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        kills.append(parts)
                time.sleep(0.2)
            time.sleep(0.002)

    killer = threading.Thread(target=kill)
    killer.start()
    status, _, stderr = run(photos, "-o", out, "--format", "parquet", "--actors", 1)
    killer.join()
    assert len(kills) >= 1
    assert kills[0] < len(list(out.glob("part-*")))
    assert status == 1
    assert "380 of 400 images" in stderr
    rows = table(out)
    assert sorted(row["path"] for row in rows) == sorted(map(str, photos.iterdir()))
    assert {row["path"] for row in rows if row["error"]} == set(map(str, damaged))
    assert all("truncated" in row["error"] and row["map"] is None for row in rows if row["error"])
    predictor = Predictor(tiny_preset)
    expected = {height: predictor(photos / f"{number:04d}.jpg") for number, height in enumerate((40, 48, 56))}
    for row in rows:
        if not row["error"]:
            saliency = decoded(row["map"])
            assert np.abs(saliency - 255 * expected[len(saliency)]).max() <= 0.5001


@pytest.fixture
def kill(monkeypatch, tmp_path):
    """Kill the actors that process some images: `kill(condition on a path, limit)` -> folder with a file per death."""
    deaths = tmp_path / "deaths"
    deaths.mkdir()

    def kill(condition, limit):
        class Killed(job._BlockWriter):  # a local class, since Ray sends those to the actors
            max_attempts = limit

            def __init__(self, *arguments):
                super().__init__(*arguments)
                rows = self.worker.rows

                def killing(paths):
                    for path, row in zip(paths, rows(paths), strict=True):
                        if condition(path):
                            (deaths / str(time.time_ns())).touch()
                            os.kill(os.getpid(), signal.SIGKILL)
                        yield row

                self.worker.rows = killing

        monkeypatch.setattr(job, "_BlockWriter", Killed)
        return deaths

    return kill


def test_images_that_kill_their_actor_get_an_error_and_the_others_get_maps(run, links, kill, tmp_path):
    photos, out = links(20), tmp_path / "out"
    killers = {str(photos / name) for name in ("0005.jpg", "0006.jpg")}
    deaths = kill(killers.__contains__, limit=6)
    status, _, stderr = run(photos, "-o", out, "--format", "parquet", "--actors", 1)
    assert status == 1
    assert "18 of 20 images" in stderr
    assert f"{photos / '0005.jpg'}: the process was killed each time it read this image" in stderr
    rows = table(out)
    assert sorted(row["path"] for row in rows) == sorted(map(str, photos.iterdir()))
    assert {row["path"] for row in rows if row["error"]} == killers
    assert {row["path"] for row in rows if row["map"] is None} == killers
    assert len(list(deaths.iterdir())) == 1 + 2 + 2  # the first attempt does not know which image it was
    assert not list((out / "_journal" / "attempts").iterdir())


def test_a_block_whose_actor_is_always_killed_ends_the_job(run, links, kill, tmp_path):
    deaths = kill(lambda path: True, limit=2)
    photos = links(12)
    status, _, stderr = run(photos, "-o", tmp_path / "out", "--actors", 1)
    assert status == 1
    assert "Error: The job failed: the process of a block was killed 2 times, the last time at" in stderr
    assert len(list(deaths.iterdir())) == 2


def actors():
    """Process ids of the actors of this process's Ray session."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if b"MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if os.getpid() in ancestors(pid, parents)]


def ancestors(pid, parents):
    while pid := parents.get(pid, 0):
        yield pid


def test_groups_are_rows_and_equal_the_group_predictor(run, save_photo, tiny_group_preset, tmp_path):
    for group, images in (("ants", 2), ("bees", 3)):
        for number in range(images):
            data = save_photo(f"data/{group}/{number}.jpg", (48 + 8 * number, 64)).parents[1]
    (data / "bees" / "bad.jpg").write_bytes(b"not an image")
    (data / "none").mkdir()
    (data / "none" / "bad.jpg").write_bytes(b"not an image")
    out = tmp_path / "out"
    status, _, stderr = run(data, "--grouped", "-o", out, "--format", "parquet")
    assert status == 1
    assert "5 of 7 images in 3 groups" in stderr
    assert "2 failed:" in stderr
    rows = {row["group"]: row for row in table(out)}
    assert list(rows) == ["ants", "bees", "none"]
    paths = sorted(map(str, (data / "bees").iterdir()))
    assert rows["bees"]["paths"] == paths
    assert [error is None for error in rows["bees"]["errors"]] == [True, True, True, False]
    expected = GroupPredictor(tiny_group_preset)(paths[:3])
    for png, mean, saliency in zip(rows["bees"]["maps"], rows["bees"]["means"], expected, strict=False):
        assert np.abs(decoded(png) - 255 * saliency).max() <= 0.5001
        assert mean == pytest.approx(saliency.mean(), abs=1e-6)
    assert run(data, "--grouped", "-o", tmp_path / "files")[0] == 1
    assert files_below(tmp_path / "files") == [f"ants/{n}.png" for n in "01"] + [f"bees/{n}.png" for n in "012"]


def test_a_web_dataset_has_a_map_and_a_description_per_image(run, links, tiny_preset, tmp_path):
    photos = links(2)
    (photos / "bad.jpg").write_bytes(b"not an image")
    # remote file systems are addressed by URI
    assert run(f"file://{photos}", "-o", f"file://{tmp_path / 'out'}", "--format", "webdataset")[0] == 1
    (part,) = (tmp_path / "out").glob("part-*.tar")
    with tarfile.open(part) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    key = "00000000-00000"
    assert list(members) == [f"{key}0.png", f"{key}0.json", f"{key}1.png", f"{key}1.json", f"{key}2.json"]
    descriptions = [json.loads(members[f"{key}{number}.json"]) for number in range(3)]
    assert [row["path"] for row in descriptions] == [f"file://{photos}/{n}.jpg" for n in ("0000", "0001", "bad")]
    saliency = Predictor(tiny_preset)(photos / "0001.jpg")
    assert np.abs(decoded(members[f"{key}1.png"]) - 255 * saliency).max() <= 0.5001
    rows, columns = np.nonzero(saliency >= 0.5)
    assert descriptions[1]["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert descriptions[2]["error"].startswith(f"file://{photos}/bad.jpg: not an image")
    assert run(f"file://{photos}", "-o", f"file://{tmp_path / 'out'}", "--format", "webdataset")[0] == 1
    assert len(list((tmp_path / "out").glob("part-*.tar"))) == 1


@pytest.mark.parametrize("maps", ["png", "array"])
def test_predict_adds_columns_to_a_data_set(ray_session, links, tiny_preset, maps):
    photos = links(2)
    rows = [{"path": str(photos / name), "label": name} for name in ("0000.jpg", "0001.jpg", "gone.jpg")]
    if maps == "array":  # the files need not be readable by the actors
        rows = [{**row, "path": f"elsewhere/{row['label']}", "bytes": _bytes(row["path"])} for row in rows]
    result = predict(ray_session.data.from_items(rows), maps=maps, preset=str(tiny_preset)).take_all()
    result = {row["label"]: row for row in result}
    assert list(result["0000.jpg"]) == ["path", "label", "map", "box", "mean", "error"]
    for name in ("0000.jpg", "0001.jpg"):
        row, expected = result[name], Predictor(tiny_preset)(photos / name)
        if maps == "array":
            np.testing.assert_allclose(row["map"], expected, atol=1e-6)
        else:
            assert np.abs(decoded(row["map"]) - 255 * expected).max() <= 0.5001
        assert row["mean"] == pytest.approx(expected.mean(), abs=1e-6)
        assert row["error"] is None
    assert "gone.jpg" in result["gone.jpg"]["error"]
    assert result["gone.jpg"]["map"] is None if maps == "png" else result["gone.jpg"]["map"].size == 0


def _bytes(path):
    return Path(path).read_bytes() if Path(path).exists() else b""


def test_predict_adds_lists_to_groups(ray_session, links, tiny_group_preset):
    paths = sorted(map(str, links(3).iterdir()))
    dataset = ray_session.data.from_items([{"name": "all", "paths": paths}, {"name": "two", "paths": paths[:2]}])
    result = predict(dataset, grouped=True, preset=str(tiny_group_preset)).take_all()
    for row in result:
        expected = GroupPredictor(tiny_group_preset)(row["paths"])
        assert len(row["maps"]) == {"all": 3, "two": 2}[row["name"]]
        for png, saliency in zip(row["maps"], expected, strict=True):
            assert np.abs(decoded(png) - 255 * saliency).max() <= 0.5001
        assert list(row["errors"]) == [None] * len(expected)


def test_a_file_that_cannot_be_written_or_a_wrong_preset_is_reported(run, links, tiny_group_preset, tmp_path):
    photos = links(20)
    (photos / "sub").mkdir()
    (photos / "sub" / "1.jpg").write_bytes((photos / "0000.jpg").read_bytes())
    for name in ("_journal", "sub"):  # the second one is noticed by an actor
        out = tmp_path / f"out{name}"
        out.mkdir()
        (out / name).touch()
        status, _, stderr = run(photos, "-o", out)
        assert status == 1
        assert stderr.startswith("Error: ")
        assert "a file exists where a folder is needed. Choose another folder." in stderr
        assert "Traceback" not in stderr
    assert re.search(r"Stopped after (0|16) of 21 images", stderr)  # two blocks, in any order
    status = main.main(["bulk", str(photos), "-o", str(tmp_path / "new"), "--preset", str(tiny_group_preset)])
    assert status == 2
    assert not (tmp_path / "new").exists()


def test_maps_are_not_written_over_photos(run, save_photo, tmp_path):
    save_photo("photos/a.png", (30, 40))
    save_photo("photos/raw/b.jpg", (30, 40))
    save_photo("photos/b.png", (30, 40))
    before = (tmp_path / "photos/a.png").read_bytes(), (tmp_path / "photos/b.png").read_bytes()
    status, _, stderr = run(tmp_path / "photos", "-o", tmp_path / "photos")
    assert status == 2
    assert "is the folder of" in stderr
    status, _, stderr = run(tmp_path / "photos/raw", "-o", tmp_path / "photos")
    assert status == 2
    assert "photos/b.png: exists, and was not written by keras-recnet" in stderr
    assert before == ((tmp_path / "photos/a.png").read_bytes(), (tmp_path / "photos/b.png").read_bytes())


def test_the_map_of_a_photo_named_like_a_part_is_kept(run, save_photo, tmp_path):
    save_photo("photos/part-1.jpg", (30, 40))
    assert run(tmp_path / "photos", "-o", tmp_path / "out")[0] == 0
    save_photo("photos/new.jpg", (30, 40))
    (tmp_path / "out/_journal/.00000001.ab12cd34.json").write_text("{")  # of a killed actor
    assert run(tmp_path / "photos", "-o", tmp_path / "out")[0] == 0
    assert files_below(tmp_path / "out") == ["new.png", "part-1.png"]
