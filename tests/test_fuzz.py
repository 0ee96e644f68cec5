"""Damaged files of every kind raise an error of the library, or are read: no other exception, no warning, no hang."""

import copy
import io
import json
import signal
import struct
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image, PngImagePlugin

from keras_recnet import GroupPredictor, Predictor, presets
from keras_recnet.errors import RecNetError
from keras_recnet.evaluation.map_files import read_map, read_mask
from keras_recnet.export.serving.codec import encode_image
from keras_recnet.imaging.reading import read

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs the timer of POSIX")

SECONDS_PER_FILE = 5

# Values that overflow, or that mean "nothing" or "negative", in fields of 1, 2 and 4 bytes.
EXTREMES = [field for size in (1, 2, 4) for field in (bytes(size), b"\xff" * size, b"\x7f" + b"\xff" * (size - 1))]

# Values of the wrong type, size or range, for configurations and annotations.
WRONG = [
    None,
    True,
    -1,
    0,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "1",
    [],
    ["x"],
    {},
    {"x": 1},
    [[[]]],
]


class Hang(BaseException):
    """A file takes too long. Not an `Exception`, which readers may catch."""


@pytest.fixture
def survives():
    """Function that calls `reader(file)` and accepts only a result or a `RecNetError`, in time and without warnings."""

    def call(reader, file, label):
        signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_FILE)
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            try:
                reader(file)
            except RecNetError:
                pass
            except (Exception, Hang) as error:
                raise AssertionError(f"{label}: {type(error).__name__}: {error}") from error
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        assert not shown, f"{label}: {shown[0].message}"

    def stop(*_):
        raise Hang(f"more than {SECONDS_PER_FILE} s")

    before = signal.signal(signal.SIGALRM, stop)
    yield call
    signal.signal(signal.SIGALRM, before)


def mutate(data, random):
    """Flip bits, truncate, swap, remove or insert bytes, or edit the header: one to three of these."""
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        first, second = sorted(int(at) for at in random.integers(len(data) + 1, size=2))
        count = int(random.integers(1, 33))
        match random.integers(6):
            case 0 if data:
                for at in random.integers(len(data), size=5):
                    data[at] ^= 1 << int(random.integers(8))
            case 1:
                del data[first:]
            case 2:
                data[first:second] = data[second : second + count] + data[first:second]
            case 3:
                del data[first : first + count]
            case 4:
                data[first:first] = random.bytes(count)
            case 5:
                at, field = int(random.integers(min(len(data) + 1, 96))), EXTREMES[random.integers(len(EXTREMES))]
                data[at : at + len(field)] = field
    return bytes(data)


def mutate_values(values, random):
    """Replace or remove one to three values anywhere in nested dicts and lists."""
    root = [copy.deepcopy(values)]
    for _ in range(random.integers(1, 4)):
        inside, key = root, 0
        while isinstance(inside[key], (dict, list)) and inside[key] and random.random() < 0.8:
            inside = inside[key]
            keys = list(inside) if isinstance(inside, dict) else range(len(inside))
            key = keys[random.integers(len(keys))]
        if inside is not root and random.random() < 0.3:
            del inside[key]
        else:
            inside[key] = copy.deepcopy(WRONG[random.integers(len(WRONG))])
    return root[0]


def mutate_text(text, parse, dump, random):
    """Mutate the values in a JSON or YAML text, or the bytes of the text."""
    if random.random() < 0.7:
        return dump(mutate_values(parse(text), random)).encode()
    return mutate(text.encode(), random)


def image_files():
    """Return {label: bytes} of small images in every format that the library reads."""
    random = np.random.default_rng(0)
    photo = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
    gray, palette, cutout = photo.convert("L"), photo.quantize(16), photo.copy()
    cutout.putalpha(gray)
    deep = Image.fromarray(random.integers(0, 65536, (24, 32), np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "compressed" * 9, zip=True)
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    files = {}

    def add(label, image, suffix, **options):
        file = io.BytesIO()
        image.save(file, suffix, **options)
        files[label] = file.getvalue()

    add("JPEG", photo, "JPEG", exif=exif)
    add("progressive JPEG", photo, "JPEG", progressive=True)
    add("CMYK JPEG", photo.convert("CMYK"), "JPEG")
    add("MPO", photo, "MPO", save_all=True, append_images=[photo])
    add("PNG", photo, "PNG", exif=exif, pnginfo=text)
    add("PNG with alpha", cutout, "PNG")
    add("PNG of 1 bit", gray.convert("1"), "PNG")
    add("PNG of 16 bits", deep, "PNG")
    add("gray PNG with a transparent value", gray, "PNG", transparency=7)
    add("palette PNG", palette, "PNG", bits=4, transparency=3)
    add("palette PNG with alpha", palette, "PNG", transparency=bytes(range(16)))
    add("animated PNG", photo, "PNG", save_all=True, append_images=[photo.rotate(90)])
    add("GIF", palette, "GIF", transparency=2, save_all=True, append_images=[palette.rotate(90)])
    add("BMP", photo, "BMP")
    add("palette BMP", palette, "BMP")
    add("DIB", photo, "DIB")
    add("WebP", photo, "WEBP", exif=exif)
    add("lossless WebP", cutout, "WEBP", lossless=True)
    for compression in (None, "tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"):
        add(f"TIFF, {compression}", photo, "TIFF", compression=compression, exif=exif)
    add("TIFF, group4", gray.convert("1"), "TIFF", compression="group4")
    add("TIFF of 16 bits", deep, "TIFF")
    add("TIFF of 32 bits", gray.convert("I"), "TIFF")
    add("TIFF of floats", Image.fromarray(random.random((24, 32), np.float32)), "TIFF")
    add("AVIF", cutout, "AVIF", exif=exif)
    add("JPEG 2000", photo, "JPEG2000")
    add("JPEG 2000 codestream", cutout, "JPEG2000", no_jp2=True)
    add("PPM", photo, "PPM")
    add("PGM of 16 bits", deep.convert("I"), "PPM")
    files["PPM in ASCII"] = b"P3\n# comment\n4 3\n255\n" + b" ".join(b"%d" % value for value in range(36))
    files["PFM"] = b"Pf\n4 3\n-1.0\n" + np.linspace(0, 1, 12, dtype="<f4").tobytes()
    add("ICO", cutout, "ICO", sizes=[(16, 16), (24, 24)])
    add("ICO of a BMP", cutout, "ICO", sizes=[(16, 16)], bitmap_format="bmp")
    add("PCX", palette, "PCX")
    add("SGI", photo, "SGI")
    add("TGA", cutout, "TGA", compression="tga_rle")
    files["QOI"] = b"qoif" + struct.pack(">IIBB", 4, 3, 3, 0) + b"\xfe\x01\x02\x03" * 12 + bytes(7) + b"\x01"
    channels = np.moveaxis(np.asarray(photo), 2, 0)
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 24, 32, 8, 3) + bytes(12)
    files["PSD"] = header + struct.pack(">H", 0) + channels.tobytes()
    rows = b"".join(b"\x1f" + row.tobytes() for row in channels.reshape(72, 32))
    files["compressed PSD"] = header + struct.pack(">H72H", 1, *[33] * 72) + rows
    for dtype in (np.float32, np.uint8):
        file = io.BytesIO()
        np.save(file, random.integers(0, 2, (1, 6, 8)).astype(dtype))
        files[f"NPY, {np.dtype(dtype)}"] = file.getvalue()
    return files


@pytest.mark.parametrize(
    "reader",
    [
        read,
        lambda file: read(file, fit=(8, 8)),
        lambda file: read_map(file, "x"),
        lambda file: read_mask(file, "x"),
        encode_image,
    ],
    ids=["read", "read at a size", "read_map", "read_mask", "encode_image"],
)
def test_damaged_images_are_read_or_reported(reader, survives):
    random, files = np.random.default_rng(0), list(image_files().items())
    for index in range(1000):
        label, file = files[index % len(files)]
        survives(reader, mutate(file, random), f"{label}, file {index}")


def test_the_intact_images_are_read():
    for label, file in image_files().items():
        image = read_map(file, label)[0] if label.startswith("NPY") else read(file, name=label).rgb
        assert image.size, label


@pytest.mark.parametrize("name", ["recnet_lite0", "rcau_lite0"])
def test_damaged_preset_configurations_are_reported(name, survives, tmp_path):
    shipped, random = presets.SHIPPED / name, np.random.default_rng(0)
    for file in (presets.LITERT, presets.WEIGHTS):
        (tmp_path / file).symlink_to(shipped / file)
    text = (shipped / presets.CONFIG).read_text()

    def use(file):
        (tmp_path / presets.CONFIG).write_bytes(file)
        preset = presets.find(tmp_path)
        preset.check_size(64)
        (Predictor if preset.task == presets.SALIENCY else GroupPredictor)(tmp_path)

    for index in range(50):
        survives(use, mutate_text(text, json.loads, json.dumps, random), f"{name}, file {index}")


@pytest.mark.parametrize("name", ["recnet_lite0", "rcau_lite0"])
def test_damaged_training_configurations_are_reported(name, survives, tmp_path):
    from keras_recnet.training.config import loading, yaml_source

    path, random = tmp_path / "config.yaml", np.random.default_rng(0)
    text = yaml_source.find(name).read_text()

    def load(file):
        path.write_bytes(file)
        loading.load(path)

    for index in range(50):
        survives(load, mutate_text(text, yaml.safe_load, yaml.safe_dump, random), f"{name}, file {index}")


def test_damaged_coco_annotations_are_reported(survives, tmp_path):
    pytest.importorskip("pycocotools")
    from keras_recnet.pipelines.coco import annotations

    path, random = tmp_path / "instances.json", np.random.default_rng(0)
    polygon = [[1, 1, 30, 1, 30, 20, 1, 20]]
    runs, compressed = ({"size": [24, 32], "counts": counts} for counts in ([100, 200, 468], "T3X6d>"))
    text = json.dumps(
        {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 32, "height": 24} for i in range(4)],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": [
                {"id": i, "image_id": i % 4, "category_id": 7 + 2 * (i % 2), "segmentation": segmentation, "iscrowd": 0}
                for i, segmentation in enumerate([polygon, runs, compressed, polygon, polygon, runs])
            ],
        }
    )
    for index in range(4):
        Image.new("RGB", (32, 24)).save(tmp_path / f"{index}.png")

    def select(file):
        path.write_bytes(file)
        annotations.select(path, tmp_path)

    for index in range(100):
        survives(select, mutate_text(text, json.loads, json.dumps, random), f"file {index}")


def test_damaged_checkpoints_are_reported(survives, tmp_path):
    from keras_recnet.training import checkpoints

    random = np.random.default_rng(0)
    optimizer = SimpleNamespace(variables=[np.zeros((), np.int64), np.zeros((3, 4), np.float32)])
    model = SimpleNamespace(variables=[np.ones((3, 4), np.float32), np.ones(4, np.float32)], optimizer=optimizer)
    path = checkpoints.CheckpointFolder(tmp_path).write(model, {"step": 3, "epoch": 1, "history": [{"loss": 0.5}]})
    intact = path.read_bytes()

    def load(file):
        path.write_bytes(file)
        checkpoints.read(path)

    for index in range(100):
        survives(load, mutate(intact, random), f"file {index}")
