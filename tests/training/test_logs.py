import csv
import io

import numpy as np
import pytest
from PIL import Image

from keras_recnet.training import progress, sample_sheet, synthetic
from keras_recnet.training.logs import Logs, draw_curves

ROW = {"epoch": 1, "step": 40, "loss": 0.5, "val_loss": 0.6, "val_mae": 0.1, "val_f": 0.8, "learning_rate_rest": 1e-3}


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_steps_and_epochs_are_logged(tmp_path):
    log = Logs(tmp_path, interval=20)
    for step in range(1, 41):
        log.step(step, {"loss": 1 / step})
    log.epoch([ROW])
    log.epoch([ROW, {**ROW, "epoch": 2, "learning_rate_rest": 0.0}])
    log.close()
    assert [(row["step"], float(row["loss"])) for row in rows_of(tmp_path / "steps.csv")] == [
        ("20", 0.05),
        ("40", 0.025),
    ]
    assert [row["epoch"] for row in rows_of(tmp_path / "log.csv")] == ["1", "2"]
    with Image.open(tmp_path / "curves.png") as curves:
        assert curves.size == (1000, 650)


def test_tensorboard_can_read_the_events(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Logs(tmp_path)
    log.step(20, {"loss": 0.25})
    log.epoch([ROW])
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("step/loss")] == [(20, 0.25)]
    assert events.Scalars("epoch/val_mae")[0].value == pytest.approx(0.1)


def test_a_resumed_run_removes_the_steps_that_it_repeats(tmp_path):
    (tmp_path / "steps.csv").write_text("step,loss\n20,0.5\n40,0.4\n60,0.3\n80,0", encoding="utf-8")
    log = Logs(tmp_path, start_step=40, tensorboard=False)
    log.step(60, {"loss": 0.35})
    assert [(row["step"], row["loss"]) for row in rows_of(tmp_path / "steps.csv")] == [
        ("20", "0.5"),
        ("40", "0.4"),
        ("60", "0.35"),
    ]


def test_curves_of_zero_learning_rates_are_drawn_without_warning(tmp_path):
    draw_curves([{**ROW, "learning_rate_rest": 0.0}], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_log_file_gets_a_line_per_minute(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    display = progress.Progress(total_steps=100, batch_size=16, interval=60, stream=stream)
    display.start_epoch(1, 1, 0, 100)
    for _ in range(40):
        now[0] += 2.0
        display.step(0.25)
    display.end_epoch()
    # after a minute, 30 of 100 steps of 2 s and 16 images are done
    assert stream.getvalue() == "Epoch 1/1, step 30/100: loss 0.2500, 8.0 images/s, 2:20 left\n"


def test_a_terminal_gets_a_bar_that_is_removed_after_the_epoch():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    display = progress.Progress(total_steps=4, batch_size=2, stream=stream)
    display.start_epoch(1, 2, 0, 2)
    display.step(0.5)
    display.end_epoch()
    display.log("Epoch 1/2: done")
    assert "Epoch 1/2" in stream.getvalue()
    assert stream.getvalue().endswith("Epoch 1/2: done\n")


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (3599.6, "1:00:00"), (7325, "2:02:05")])
def test_durations_are_formatted_as_hours_minutes_and_seconds(seconds, text):
    assert progress.format_duration(seconds) == text


def test_a_sample_sheet_has_image_mask_and_map(tmp_path):
    images = np.full((3, 32, 32, 3), (200.0, 100.0, 50.0), "float32")
    masks, maps = np.ones((3, 32, 32, 1), "float32"), np.full((3, 32, 32, 1), 0.5, "float32")
    sample_sheet.draw(images, masks, maps, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    cell = sample_sheet.CELL + sample_sheet.GAP
    assert sheet.shape == (2 * cell, 6 * cell, 3)
    centers = [tuple(sheet[cell // 2, cell // 2 + cell * column]) for column in range(6)]
    assert centers[:3] == centers[3:] == [(200, 100, 50), (255, 255, 255), (127, 127, 127)]


def test_samples_are_evenly_spaced():
    assert sample_sheet.choose(3, 9) == [0, 4, 8]
    assert sample_sheet.choose(8, 2) == [0, 1]


def test_synthetic_images_depend_on_the_seed_only_and_fit_their_masks():
    image, mask = synthetic.draw(np.random.default_rng(1))
    again, _ = synthetic.draw(np.random.default_rng(1))
    np.testing.assert_array_equal(image, again)
    assert set(np.unique(mask)) == {0, 255}
    assert 0.02 < (mask > 0).mean() < 0.6
    gray = image.mean(axis=-1)
    assert gray[mask > 0].mean() > gray[mask == 0].mean() + 40
