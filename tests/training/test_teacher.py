"""Knowledge distillation: soft targets from a teacher's maps."""

import csv
import io
import os
import shutil
import signal

import cv2
import numpy as np
import pytest

from keras_recnet.errors import ConfigError, DataError, MissingExtraError, PresetError
from keras_recnet.training import progress, synthetic, teacher
from keras_recnet.training.checkpoints import read
from keras_recnet.training.config.loading import load
from keras_recnet.training.data import names_of
from keras_recnet.training.preparation import prepare
from keras_recnet.training.run import preview, train
from keras_recnet.training.saliency_task import SaliencyTask

LABELED, HELD_OUT, UNLABELED = 12, 24, 100


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with 12 training and 24 validation images with masks, 100 without, and blurred masks as maps.

    photos/images, photos/masks, photos/validation.txt; more/; maps/ and maps/unlabeled/. The training images with masks
    all show ellipses of one color, the others ellipses, rectangles and triangles of three colors.
    """
    folder = tmp_path_factory.mktemp("data")
    for part in ("photos/images", "photos/masks", "more", "maps/unlabeled"):
        (folder / part).mkdir(parents=True)
    for number in range(LABELED + HELD_OUT + UNLABELED):
        training, labeled = number < LABELED, number < LABELED + HELD_OUT
        image, mask = synthetic.draw(np.random.default_rng((5, number)), kind=0 if training else number % 3)
        name = f"{number:04d}.png"
        cv2.imwrite(str(folder / ("photos/images" if labeled else "more") / name), image[..., ::-1])
        if labeled:
            cv2.imwrite(str(folder / "photos/masks" / name), mask)
        if training or not labeled:
            blurred = cv2.GaussianBlur(mask, (0, 0), 1)
            cv2.imwrite(str(folder / ("maps" if labeled else "maps/unlabeled") / name), blurred)
    held_out = [f"{number:04d}" for number in range(LABELED, LABELED + HELD_OUT)]
    (folder / "photos/validation.txt").write_text("\n".join(held_out), encoding="utf-8")
    return folder


@pytest.fixture
def own(data, tmp_path):
    """A copy of `data` that a test may change."""
    return shutil.copytree(data, tmp_path / "data")


def with_images(data):
    return [f"data.root={data}/photos", f"data.unlabeled={data}/more"]


def task_of(*overrides):
    return SaliencyTask(load("distill", ["batch_size=4", *overrides]))


class Model:
    """All that `SaliencyTask.build_data` needs of a model."""

    image_size = (80, 80)


@pytest.fixture
def run(tiny, tmp_path, data):
    """Trains the tiny network on drawn shapes; returns the rows of log.csv and what was printed."""

    def run(name, *overrides, resume=False):
        network = ["init=random", "model.backbone=tiny", "model.image_size=64", "model.integration_filters=8"]
        common = ["data.synthetic=null", "data.validation=null", f"data.root={data}/photos", *network]
        stream = io.StringIO()
        try:
            train("smoke", [*tiny, *common, f"output={tmp_path / name}", *overrides], resume, stream)
        finally:
            run.output = stream.getvalue()
        with open(tmp_path / name / "log.csv", newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return run


def test_the_student_of_a_good_teacher_beats_the_same_student_trained_on_a_few_masks(run, data):
    options = ["epochs=null", "steps=200", "batch_size=4", "data.augment={flip: 0.5, min_crop: 0.75}", "ema=null"]
    options += ["model.integration_filters=32", "model.head_filters=32"]
    options += [f"optimizer.{key}" for key in ("learning_rate=5e-3", "backbone_learning_rate=null", "warmup_steps=0.2")]
    # each image several times per epoch, because an epoch takes longer than its few steps
    masks = run("masks", *options, "data.root=null", f"data.roots=[{', '.join([f'{{root: {data}/photos}}'] * 8)}]")
    assert "96 training images, 192 validation images; 200 steps" in run.output
    maps = run("maps", *options, f"data.unlabeled={data}/more", f"teacher.maps={data}/maps")
    assert "112 training images (100 without masks), 24 validation images; 200 steps" in run.output
    errors = [min(float(row["val_mae"]) for row in rows) for rows in (masks, maps)]
    assert errors[1] < 0.6 * errors[0]  # 0.061…0.063 and 0.021…0.023 with the seeds 1 to 4


def test_targets_are_the_mixed_maps_and_masks_of_numpy(data, tmp_path):
    task = task_of(*with_images(data), f"teacher.maps={data}/maps", "teacher.weight=0.3", "data.augment=null")
    training, validation = task.find_files(tmp_path)
    assert (len(training), len(validation)) == (LABELED + UNLABELED, HELD_OUT)
    found = task.build_data((training, validation), Model, print)
    targets = dict(zip(names_of(training), np.concatenate([m for _, m in found.training.evaluation()]), strict=True))

    def gray(path):
        return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(float) / 255

    for name in ("0000", "0007"):
        expected = 0.3 * gray(data / f"maps/{name}.png") + 0.7 * gray(data / f"photos/masks/{name}.png")
        np.testing.assert_allclose(targets[name][..., 0], expected, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(targets["unlabeled/0100"][..., 0], gray(data / "maps/unlabeled/0100.png"), atol=1e-6)
    # validation: masks only
    masks = np.concatenate([m for _, m in found.validation.evaluation()])
    assert set(np.unique(masks)) == {0, 1}
    assert all(pair.teacher_map is None for pair in validation)


def test_images_without_masks_are_never_held_out_and_images_with_masks_are_used_once(own, tmp_path):
    (own / "photos/validation.txt").unlink()
    (own / "maps/unlabeled/0000.png").write_bytes((own / "maps/0000.png").read_bytes())
    everything = [f"data.root={own}/photos", f"data.unlabeled={own}/photos/images", "teacher.preset=recnet_lite0"]
    training, validation = task_of(*everything, "data.validation=0.5").find_files(tmp_path)
    assert (len(training), len(validation)) == (18, 18)
    assert all(pair.mask for pair in [*training, *validation])
    # the other images of the folder are used without masks
    (own / "some.txt").write_text("0001\n0002\n0003\n0004\n", encoding="utf-8")
    some = [*everything, f"data.list={own}/some.txt", "data.validation=0.25"]
    training, validation = task_of(*some).find_files(tmp_path)
    assert (len(training), len(validation)) == (3 + 32, 1)
    assert [pair.name for pair in training if pair.mask is None][:2] == ["unlabeled/0000", "unlabeled/0005"]
    assert not {pair.image for pair in training} & {pair.image for pair in validation}


def test_each_root_can_have_images_without_masks(data, tmp_path):
    roots = f"data.roots=[{{root: {data}/photos}}, {{unlabeled: {data}/more}}]"
    training, _ = task_of(roots, "teacher.preset=recnet_lite0").find_files(tmp_path)
    assert names_of(training)[:: LABELED + UNLABELED - 1] == ["photos/0000", "more/unlabeled/0135"]
    with pytest.raises(
        DataError, match=r"0036\.png: the teacher has no map for this image, .*/maps/more/unlabeled/0036"
    ):
        task_of(roots, f"teacher.maps={data}/maps").find_files(tmp_path)


def test_without_any_mask_training_needs_no_validation(data, tmp_path):
    only = [f"data.unlabeled={data}/more", "teacher.preset=recnet_lite0"]
    with pytest.raises(ConfigError, match=r"validation needs images with masks.*--set data.validation=0 --set preset"):
        task_of(*only).find_files(tmp_path)
    training, validation = task_of(*only, "data.validation=0", "preset.weights=last").find_files(tmp_path)
    assert (len(training), validation) == (UNLABELED, [])


def test_with_weight_0_images_with_masks_need_no_map(own, tmp_path):
    (own / "maps/0003.png").unlink()
    maps = [*with_images(own), f"teacher.maps={own}/maps"]
    with pytest.raises(
        DataError, match=r"photos/images/0003\.png: the teacher has no map for this image, .*/0003\.png"
    ):
        task_of(*maps).find_files(tmp_path)
    training, _ = task_of(*maps, "teacher.weight=0").find_files(tmp_path)
    assert [pair.name for pair in training if pair.teacher_map is None] == [f"{n:04d}" for n in range(LABELED)]


def test_all_faults_of_maps_and_images_are_reported_together(own, tmp_path):
    (own / "maps/0003.png").unlink()
    (own / "maps/unlabeled/0050.png").write_bytes(b"damaged")
    cv2.imwrite(str(own / "maps/unlabeled/0051.png"), np.zeros((40, 80), np.uint8))
    (own / "more/0052.png").write_bytes((own / "more/0052.png").read_bytes()[:900])
    (own / "photos/images/0001.png").write_bytes(b"damaged")
    with pytest.raises(DataError) as info:
        task_of(*with_images(own), f"teacher.maps={own}/maps").find_files(tmp_path)
    # without the missing map, the others cannot be compared with their images
    for message in (
        "images/0003.png: the teacher has no map",
        "more/0052.png: cannot",
        "images/0001.png: not an image",
    ):
        assert message in str(info.value)
    cv2.imwrite(str(own / "maps/0003.png"), np.zeros((80, 80), np.uint8))
    with pytest.raises(DataError) as info:
        task_of(*with_images(own), f"teacher.maps={own}/maps").find_files(tmp_path)
    for message in (
        "unlabeled/0050.png: not an image",
        f"unlabeled/0051.png: 80×40 pixels do not have the proportions of the image {own}/more/0051.png, 80×80",
        "more/0052.png: cannot",
    ):
        assert message in str(info.value)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ([], ConfigError, "teacher: no teacher is given. Use --set teacher.preset=PRESET, --set teacher.onnx=FILE, or"),
        (["teacher.maps=m", "teacher.onnx=o"], ConfigError, "several teachers .* teacher.onnx='o', teacher.maps='m'"),
        (["teacher.preset=recnet"], PresetError, "teacher.preset: There is no preset .* Did you mean 'recnet_lite0'"),
        (["teacher.preset=rcau_lite0"], ConfigError, "teacher.preset: must be for single images. Received: 'rcau_lit"),
        (["teacher.onnx=gone.onnx"], ConfigError, "teacher.onnx: gone.onnx: no such file"),
        (["teacher.maps=gone"], DataError, "gone: the folder of maps does not exist"),
        (["teacher=null"], ConfigError, "data.unlabeled: images without masks need the maps of a teacher. Use --set"),
        (["teacher.weight=1.5"], ConfigError, "teacher.weight: .*less than or equal to 1. Received: 1.5"),
        (["teacher.weight=-0.1"], ConfigError, "teacher.weight: .*greater than or equal to 0. Received: -0.1"),
    ],
)
def test_errors_name_the_key(data, tmp_path, overrides, error, message):
    with pytest.raises(error, match=message):
        prepare(
            load("distill", [*with_images(data), f"output={tmp_path / 'run'}", "batch_size=4", *overrides]),
            "keras-recnet train distill",
            False,
            io.StringIO(),
        )
    assert not (tmp_path / "run").exists()


def test_a_teacher_without_onnx_runtime_and_a_teacher_of_groups_are_errors(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    monkeypatch.setattr(teacher.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "keras-recnet\[onnx\]"'):
        task_of(f"teacher.onnx={tmp_path / 'model.onnx'}").check_keys()
    with pytest.raises(ConfigError, match="teacher: unknown key"):
        load("rcau_smoke", ["teacher.preset=recnet_lite0"])


def test_a_preset_predicts_the_maps_that_are_missing_or_outdated(own, tiny_preset, tmp_path):
    from keras_recnet import Predictor

    lines = []
    shutil.rmtree(own / "maps")
    for path in sorted((own / "more").iterdir())[4:]:
        path.unlink()
    overrides = [*with_images(own), f"teacher.preset={tiny_preset}", f"output={tmp_path / 'run'}"]
    task = task_of(*overrides)
    training, _ = task.predict_targets(task.find_files(tmp_path), lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("Predicting 16 maps with the teacher tiny, litert 64×64")
    (folder,) = (tmp_path / "run/teacher").iterdir()
    assert len([path for path in folder.rglob("*.png") if path.parent == folder]) == LABELED
    assert [path.name for path in sorted((folder / "unlabeled").iterdir())] == [f"00{n}.png" for n in (36, 37, 38, 39)]
    predictor = Predictor(tiny_preset)
    for pair in training:
        saved = cv2.imread(str(pair.teacher_map), cv2.IMREAD_UNCHANGED)
        np.testing.assert_allclose(saved, 255 * predictor(pair.image), atol=0.51)
    # once more: only what is missing or older than its image
    (folder / "0002.png").unlink()
    os.utime(own / "more/0037.png")
    before = {pair.name: pair.teacher_map.stat().st_mtime_ns for pair in training if pair.name != "0002"}
    again, _ = task.predict_targets(task.find_files(tmp_path), lines.append)
    assert lines[1].startswith("Predicting 2 maps")
    assert again == training
    changed = [name for name, time in before.items() if (folder / f"{name}.png").stat().st_mtime_ns != time]
    assert changed == ["unlabeled/0037"]
    # these maps are a folder for `teacher.maps`
    found, _ = task_of(*with_images(own), f"teacher.maps={folder}").find_files(tmp_path)
    assert [pair.teacher_map for pair in found] == [pair.teacher_map for pair in training]


def test_the_map_of_an_image_outside_the_folders_is_written_to_the_folder_of_maps(own, tiny_preset, tmp_path):
    image = own / "more/0040.png"
    before = image.read_bytes()
    (own / "lists").mkdir()
    (own / "lists/list.txt").write_text(f"{image} {own}/maps/unlabeled/0040.png\n", encoding="utf-8")
    task = task_of(f"data.list={own}/lists/list.txt", "data.validation=0", "preset.weights=last", "batch_size=1")
    pairs, _ = task.find_files(tmp_path)
    assert pairs[0].name == str(image.with_suffix(""))
    config = load("distill", [f"teacher.preset={tiny_preset}"]).teacher
    (taught,) = teacher.predict_maps(config, pairs, tmp_path / "maps", print)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [taught.teacher_map.name]
    assert image.read_bytes() == before


def test_a_run_with_a_teacher_resumes_exactly_and_predicts_its_maps_once(run, data, tiny_preset, tmp_path, monkeypatch):
    options = ["epochs=1", "batch_size=8", f"data.unlabeled={data}/more", f"teacher.preset={tiny_preset}"]
    options += ["deterministic=true", "data.augment={flip: 0.5, min_crop: 0.75}"]
    run("whole", *options)
    assert run.output.count("Predicting 112 maps with the teacher tiny") == 1
    step = progress.Progress.step

    def step_and_signal(self, loss):
        step(self, loss)
        if self._step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "step", step_and_signal)
        with pytest.raises(SystemExit):
            run("stopped", *options)
    run("stopped", *options, resume=True)
    assert "Resuming from" in run.output
    assert "Predicting" not in run.output
    whole, resumed = (read(tmp_path / name / "checkpoints/step-00000014.npz") for name in ("whole", "stopped"))
    for a, b in zip(whole.model, resumed.model, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ConfigError, match=r"then → now\): teacher.weight: 0.5 → 0.7"):
        run("stopped", *options, "teacher.weight=0.7", resume=True)


def test_a_preview_shows_the_targets(data, tmp_path, tiny):
    overrides = [*tiny, "data.synthetic=null", *with_images(data), f"teacher.maps={data}/maps", "teacher.weight=1.0"]
    overrides += ["batch_size=8", f"output={tmp_path / 'run'}", "data.validation=null"]
    folder = preview("smoke", overrides, 1, io.StringIO())
    assert [path.name for path in folder.iterdir()] == ["batch-001.png"]
    task = SaliencyTask(load("smoke", overrides))
    ((row,),) = [rows for rows, _ in zip(task.preview(task.find_files(tmp_path), Model), range(1), strict=False)]
    soft = [((cell.mask > 0.1) & (cell.mask < 0.9)).mean() for cell in row[1]]
    assert min(soft) > 0.02  # the maps are blurred, the masks are not
