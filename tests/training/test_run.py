import csv
import errno
import gc
import io
import os
import signal
import sys
import types
import weakref

import keras
import numpy as np
import pytest

from keras_recnet.errors import ConfigError, DataError, DiskError, PresetError, RecNetError
from keras_recnet.models import RecNet
from keras_recnet.pipelines import batches, image_source
from keras_recnet.pipelines.cache import fill_cache
from keras_recnet.training import checkpoints, logs, loop, progress, session
from keras_recnet.training.checkpoints import read
from keras_recnet.training.config.loading import load
from keras_recnet.training.run import preview, train
from keras_recnet.training.saliency_task import SaliencyTask

EPOCH = 8  # steps per epoch of `smoke`


def rows_of(output):
    with open(output / "log.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def smoke(tiny, tmp_path):
    """Trains `smoke` with the tiny backbone, and returns its output."""

    def smoke(*overrides, resume=False):
        stream = io.StringIO()
        smoke.output = stream.getvalue
        train("smoke", [*tiny, f"output={tmp_path / 'run'}", *overrides], resume, stream)
        return stream.getvalue()

    return smoke


def test_a_finished_run_frees_its_cached_images(smoke, monkeypatch):
    caches = []

    def fill(*arguments, **options):
        array = fill_cache(*arguments, **options)
        caches.append(weakref.ref(array))
        return array

    monkeypatch.setattr(image_source, "fill_cache", fill)
    smoke("data.cache=memory")
    gc.collect()
    assert len(caches) == 2  # training and validation
    assert [cache() for cache in caches] == [None, None]


def test_a_run_without_tensorflow_data_is_the_same(smoke, tmp_path, monkeypatch):
    smoke()
    with_tensorflow = rows_of(tmp_path / "run")
    monkeypatch.setattr(batches, "tf", None)
    smoke(f"output={tmp_path / 'again'}")
    for row, other in zip(with_tensorflow, rows_of(tmp_path / "again"), strict=True):
        for key in ("step", "loss", "val_loss", "val_mae"):
            assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-4)


def test_a_run_writes_a_preset_checkpoints_logs_and_sample_sheets(smoke, tmp_path):
    both = ["model.branches=both", "model.attention=both", "loss.cooperative_weight=0.1"]
    output_text = smoke(*both, "preset.image_size=96", "samples=4", "tensorboard=true")
    output = tmp_path / "run"
    assert [path.name for path in sorted((output / "checkpoints").iterdir())] == [
        "best.npz",
        "step-00000008.npz",
        "step-00000016.npz",
    ]
    assert [path.name for path in sorted((output / "samples").iterdir())] == ["epoch-001.png", "epoch-002.png"]
    assert {"config.yaml", "log.csv", "curves.png", "tensorboard"} <= {path.name for path in output.iterdir()}
    rows = rows_of(output)
    assert [row["step"] for row in rows] == ["8", "16"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])

    # the preset has the EMA weights of the best epoch, and the requested size
    model = RecNet.from_preset(output / "preset")
    assert model.image_size == (96, 96)
    best = read(output / "checkpoints" / "best.npz")
    for stored, kept in zip(model.get_weights(), best.model, strict=True):
        np.testing.assert_allclose(stored, kept, atol=1e-3)
    trained = read(output / f"checkpoints/step-{EPOCH * best.state['epoch']:08d}.npz")
    assert any((a != b).any() for a, b in zip(best.model, trained.model, strict=True))
    assert "32 training images, 8 validation images; 16 steps of 4 images" in output_text
    assert "Training on " in output_text
    assert f"keras-recnet predict PHOTO.jpg -o OUT --preset {output / 'preset'}" in output_text


def test_a_preview_shows_the_augmented_images_of_the_first_batches(tiny, tmp_path):
    overrides = [*tiny, f"output={tmp_path / 'run'}", "data.augment={flip: 0.5, min_crop: 0.6, brightness: 0.3}"]
    folder = preview("smoke", overrides, 2, io.StringIO())
    assert [path.name for path in sorted(folder.iterdir())] == ["batch-001.png", "batch-002.png"]
    task = SaliencyTask(load("smoke", overrides))
    files, model = task.find_files(tmp_path / "run"), task.build_model()
    batches = task.build_data(files, model, print).training.epoch(0).as_numpy_iterator()
    for (images, masks), rows in zip(batches, task.preview(files, model), strict=False):
        cells = [cell for _, row in rows for cell in row]
        # the cache for training has the size of the files, so both crop from the same pixels
        np.testing.assert_array_equal(np.stack([cell.image for cell in cells]), images)
        np.testing.assert_array_equal(np.stack([cell.mask for cell in cells]), masks)


def test_a_run_is_not_overwritten_and_a_finished_one_can_be_resumed(smoke, tmp_path):
    smoke("epochs=1")
    with pytest.raises(ConfigError, match=r"run: this folder already has a run.*--resume; or .*--set output=FOLDER"):
        smoke("epochs=1")
    (tmp_path / "run/preset/config.json").unlink()
    assert "Resuming from" in smoke("epochs=1", resume=True)
    assert (tmp_path / "run/preset/config.json").exists()
    assert len(rows_of(tmp_path / "run")) == 1


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(smoke, tmp_path):
    smoke("epochs=1")
    for path in (tmp_path / "run/checkpoints").glob("step-*.npz"):
        path.unlink()  # the best weights are written before the checkpoint of the epoch
    assert "Preset:" in smoke("epochs=1")


def test_the_preset_can_have_the_last_weights(smoke, tmp_path):
    text = smoke("preset.weights=last", "optimizer.learning_rate=0.5", "preset.litert=false")  # epoch 2 is worse
    assert "Last epoch: 2, validation MAE" in text
    kept = {path.stem: read(path) for path in (tmp_path / "run/checkpoints").iterdir()}
    stored = RecNet.from_preset(tmp_path / "run/preset").get_weights()
    # EMA weights: neither the trained weights of the last step, nor those of the best epoch
    config = (tmp_path / "run/preset/config.json").read_text()
    assert '"last": {' in config
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(stored, kept["step-00000016"].model, strict=True))
    if kept["best"].state["epoch"] == 1:
        assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(stored, kept["best"].model, strict=True))


def test_resuming_a_folder_without_a_run_is_an_error(smoke, tmp_path):
    with pytest.raises(ConfigError, match=r"run: this folder has no checkpoint to resume from\. Start the run without"):
        smoke(resume=True)
    assert not (tmp_path / "run").exists()


def test_a_damaged_newest_checkpoint_is_skipped_and_a_damaged_best_one_is_an_error(smoke, tmp_path):
    smoke("epochs=1", "checkpoint.steps=7")
    folder = tmp_path / "run/checkpoints"
    (folder / "step-00000008.npz").write_bytes(b"")
    text = smoke("epochs=1", "checkpoint.steps=7", resume=True)
    assert "step-00000008.npz: damaged checkpoint" in text
    assert "7 of 8 steps done" in text
    (folder / "best.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"best.npz: damaged checkpoint.* --set preset.weights=last"):
        smoke("epochs=1", "checkpoint.steps=7", resume=True)
    assert "Last epoch: 1" in smoke("epochs=1", "checkpoint.steps=7", "preset.weights=last", resume=True)


def test_resuming_with_a_changed_configuration_or_images_is_an_error(smoke, photos):
    smoke("epochs=1", "data.synthetic=null", f"data.root={photos}")
    with pytest.raises(ConfigError, match=r"then → now\): optimizer.learning_rate: 0.002 → 0.5; seed: 1 → 2\. Undo"):
        smoke(
            "epochs=1",
            "data.synthetic=null",
            f"data.root={photos}",
            "seed=2",
            "optimizer.learning_rate=0.5",
            resume=True,
        )
    for folder in ("images", "masks"):
        (photos / folder / "0000.png").unlink()
    with pytest.raises(DataError, match="images have changed since this run was started"):
        smoke("epochs=1", "data.synthetic=null", f"data.root={photos}", resume=True)


def test_ctrl_c_writes_a_checkpoint_and_prints_how_to_resume(smoke, tmp_path, monkeypatch):
    step = progress.Progress.step

    def step_and_signal(self, loss):
        step(self, loss)
        if self._step == EPOCH + 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "step", step_and_signal)
    with pytest.raises(SystemExit) as info:
        smoke()
    assert info.value.code == 130
    assert "Stopped at step 11; checkpoint written. Resume with: keras-recnet train smoke " in smoke.output()
    assert smoke.output().endswith("--resume\n")
    assert read(tmp_path / "run/checkpoints/step-00000011.npz").state["epoch_step"] == 3


def test_sigterm_during_validation_keeps_the_steps_of_the_epoch(smoke, tmp_path, monkeypatch):
    from keras_recnet.training.loop import Loop

    validate = Loop._validate

    def signalled(self, stop):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, stop)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_validate", signalled)
        with pytest.raises(SystemExit):
            smoke("epochs=1")
    state = read(tmp_path / "run/checkpoints/step-00000008.npz").state
    assert (state["epoch"], state["epoch_step"], state["history"]) == (0, EPOCH, [])
    smoke("epochs=1", resume=True)
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["8"]


def test_ctrl_c_before_the_first_step_exits_with_130(smoke, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(SaliencyTask, "build_data", interrupt)
    with pytest.raises(SystemExit) as info:
        smoke()
    assert info.value.code == 130
    assert "Start again with: keras-recnet train smoke" in capsys.readouterr().err


def test_earlier_checkpoints_survive_a_full_disk(smoke, tmp_path, monkeypatch):
    savez = np.savez

    def full(path, **arrays):
        if "step-00000012" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        savez(path, **arrays)

    monkeypatch.setattr(checkpoints.np, "savez", full)
    with pytest.raises(
        DiskError, match=r"step-00000012.npz: the disk is full.*step-00000008.npz is complete.*--resume"
    ):
        smoke("checkpoint.steps=4")
    assert read(tmp_path / "run/checkpoints/step-00000008.npz").state["step"] == 8
    assert not list((tmp_path / "run/checkpoints").glob(".*"))


def test_a_full_disk_is_reported_for_logs_too(smoke, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logs.Logs, "step", full)
    with pytest.raises(DiskError, match=r"run: the disk is full.*No checkpoint was written; start again with"):
        smoke()


def test_too_little_disk_space_is_an_error_before_the_first_step(smoke, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10_000_000}))
    with pytest.raises(DiskError, match=r"run: about \d+ MB are needed .* the disk has only 10 MB free"):
        smoke()


def test_without_validation_all_images_are_trained_on_and_the_last_weights_are_kept(smoke, tmp_path):
    text = smoke("data.validation=0", "preset.weights=last", "epochs=1", "samples=4")
    assert "40 training images, no validation; 10 steps" in text
    assert "Epoch 1/1: loss" in text
    assert "Last epoch: 1\n" in text
    output = tmp_path / "run"
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step-00000010.npz"]
    assert [key for key in rows_of(output)[0] if key.startswith("val_")] == []
    assert (output / "samples/epoch-001.png").exists()
    assert (output / "preset/config.json").exists()


def test_a_loss_that_is_not_finite_is_an_error(smoke):
    with pytest.raises(RecNetError, match=r"not finite at step .* Lower optimizer.learning_rate"):
        smoke("optimizer.learning_rate=1e30", "optimizer.backbone_learning_rate=1e30", "optimizer.warmup_steps=0")


@pytest.mark.parametrize("weights", ["best", "last"])
def test_weights_that_are_not_finite_after_the_last_step_are_an_error(smoke, tmp_path, monkeypatch, weights):
    step = loop._StepCallback.on_train_batch_end

    def diverge(callback, batch, logs=None):
        if callback.loop.state.step == EPOCH - 1:
            for weight in callback.loop.model.trainable_variables:
                weight.assign(weight * np.nan)
        step(callback, batch, logs)

    monkeypatch.setattr(loop._StepCallback, "on_train_batch_end", diverge)
    with pytest.raises(RecNetError, match=r"The weights are not finite at step 8\. Lower optimizer.learning_rate"):
        smoke("epochs=1", "ema=null", "checkpoint.steps=3", f"preset.weights={weights}", "samples=4")
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step-00000003.npz", "step-00000006.npz"]


@pytest.fixture
def nan_errors(monkeypatch):
    """Returns a function that makes the validation error of some epochs NaN."""

    def nan_errors(epochs):
        class Loop(loop.Loop):
            def __post_init__(self):
                super().__post_init__()
                evaluate = self.eval_model.evaluate
                self.eval_model.evaluate = lambda *args, **options: (
                    evaluate(*args, **options) | ({"mae": float("nan")} if self.state.epoch in epochs else {})
                )

        monkeypatch.setattr(session, "Loop", Loop)

    return nan_errors


def test_an_epoch_with_a_finite_error_is_better_than_one_without(smoke, tmp_path, nan_errors):
    nan_errors([0])
    assert "Best epoch: 2" in smoke()
    assert read(tmp_path / "run/checkpoints/best.npz").state["epoch"] == 2


def test_a_run_without_a_finite_validation_error_has_no_best_epoch(smoke, nan_errors):
    nan_errors([0, 1])
    with pytest.raises(RecNetError, match="the validation error is not finite in any epoch"):
        smoke()


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_training_ends_with_a_float32_preset(smoke, tmp_path, precision):
    smoke("epochs=1", f"precision={precision}")
    assert keras.config.dtype_policy().name == "float32"
    assert np.isfinite(float(rows_of(tmp_path / "run")[0]["loss"]))
    model = RecNet.from_preset(tmp_path / "run/preset")
    assert model.layers[-1].compute_dtype == "float32"
    smoke("epochs=1", f"precision={precision}", resume=True)


def test_sgd_poly_clipping_one_rate_no_ema_and_a_short_last_epoch_work(smoke, tmp_path):
    smoke(
        "epochs=null",
        "steps=11",
        "optimizer.name=sgd",
        "optimizer.schedule=poly",
        "optimizer.warmup_steps=0",
        "optimizer.backbone_learning_rate=null",
        "optimizer.clip=1.0",
        "ema=null",
    )
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["8", "11"]


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["init=recnet_light"], PresetError, "init: There is no preset and no folder 'recnet_light'"),
        (["model.backbone=resnet"], ConfigError, "model: `backbone` must be one of .* Received: backbone='resnet'"),
        (["model.image_size=60"], ConfigError, "model: `image_size` must be a multiple of"),
        (["data.validation=0"], ConfigError, "preset.weights: the best epoch cannot be chosen without validation"),
        (
            ["optimizer.warmup_steps=16"],
            ConfigError,
            "optimizer.warmup_steps: 16 must be less than the 16 training steps",
        ),
        (["optimizer.schedule=poly"], ConfigError, "optimizer.warmup_steps: is supported with schedule: cosine only"),
    ],
)
def test_configuration_errors_name_the_key(smoke, overrides, error, message):
    with pytest.raises(error, match=message):
        smoke(*overrides)


def test_finetune_lowers_the_loss_and_writes_a_preset_for_prediction(photos, tmp_path):
    from keras_recnet.inference.predictor import Predictor

    start, output = tmp_path / "start", tmp_path / "finetuned"
    keras.utils.set_random_seed(0)
    SaliencyTask(load("smoke")).build_model().save_to_preset(start)
    overrides = [f"init={start}", f"data.root={photos}", f"output={output}", "batch_size=6", "epochs=2", "samples=0"]
    overrides += ["optimizer.warmup_steps=1", "ema=0.5", "optimizer.learning_rate=3e-3"]
    with pytest.raises(ConfigError, match=r"model.backbone: is 'efficientnet_lite0' in the preset in `init`\. Only"):
        train("finetune", [*overrides, "model.backbone=vgg16"], stream=io.StringIO())
    folder = train("finetune", overrides, stream=io.StringIO())
    rows = rows_of(output)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])

    # the preset predicts with the fine-tuned weights, in both engines
    assert folder == output / "preset"
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    before = Predictor(start, engine="keras")(image)
    after = {engine: Predictor(folder, engine=engine)(image) for engine in ("litert", "keras")}
    assert after["litert"].shape == (50, 70)
    assert np.abs(after["litert"] - before).max() > 0.01
    np.testing.assert_allclose(after["litert"], after["keras"], atol=0.01)


def test_an_image_size_that_the_preset_cannot_have_is_an_error_before_the_training(smoke, tmp_path):
    with pytest.raises(ConfigError, match=r"preset.image_size: .*must be a multiple of 8"):
        smoke("preset.image_size=90")
    assert not (tmp_path / "run/log.csv").exists()


def test_the_first_ctrl_c_says_that_it_was_noticed(capfd):
    with loop.StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        assert "Stopping after this step" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_training_on_pytorch_names_its_gpus(monkeypatch):
    monkeypatch.setattr(session.keras.backend, "backend", lambda: "torch")
    for count, text in ((2, "cuda:0, cuda:1 with the torch backend"), (0, "the torch backend; no GPU was found")):
        cuda = types.SimpleNamespace(device_count=lambda count=count: count)
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
        assert text in session.describe_device()
