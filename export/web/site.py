"""Write the static page: its files, LiteRT.js, and the LiteRT files of one or two networks."""

import hashlib
import json
import shutil
from pathlib import Path

import keras_recnet
from keras_recnet import presets
from keras_recnet.export.litert import flatbuffer
from keras_recnet.export.web.attention import expose_keys

HERE = Path(__file__).parent
LITERT = "litert"  # folder of LiteRT.js, here and in a site
MODELS = "models"
SITE = "site.json"  # what the page needs to know
LICENSES = "LICENSES.txt"
PAGE = ("index.html", "style.css", "icon.svg", "page.js", "worker.js", "images.js", "cutout.js")
GROUP_PRESET = "rcau_lite0"  # for the groups of a page whose own preset is for single photos


def find_presets(preset: presets.Preset, group_preset: presets.Preset | None = None) -> list[presets.Preset]:
    """Return the presets of a page: a co-saliency preset alone, or a saliency preset and one for groups.

    A co-saliency network also computes the map of a single photo, as a group of one.

    Args:
        preset: the preset of the page.
        group_preset: for a saliency preset, the co-saliency preset for groups; None: the shipped one.
    """
    if preset.task == presets.COSALIENCY:
        return [preset]
    return [preset, group_preset or presets.find(GROUP_PRESET)]


def litert_file(preset: presets.Preset) -> Path:
    """Return the LiteRT file of a preset that is fastest in a browser: int8, if it has one."""
    return preset.file(presets.LITERT_INT8 if preset.has(presets.LITERT_INT8) else presets.LITERT)


def write(folder: Path, networks: list[tuple[presets.Preset, bytes]]) -> None:
    """Write a site into an existing folder.

    Args:
        folder: where to write.
        networks: presets from `find_presets`, with the contents of their LiteRT files.
    """
    for name in PAGE:
        shutil.copyfile(HERE / "page" / name, folder / name)
    shutil.copytree(HERE / LITERT, folder / LITERT, dirs_exist_ok=True)
    (folder / MODELS).mkdir(exist_ok=True)
    described, licenses = {}, {}
    for preset, content in networks:
        file = f"{MODELS}/{preset.name}.tflite"
        content, attention = expose_keys(content)
        (folder / file).write_bytes(content)
        licenses[preset.name] = flatbuffer.read_metadata(folder / file)["licence"]
        described[preset.task] = {
            "name": preset.name,
            "file": file,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "attention": attention,
        }
    runtime = {file.name.partition(".")[0]: file.stat().st_size for file in (folder / LITERT).glob("*.wasm.gz")}
    site = {"version": keras_recnet.__version__, "networks": described, "runtime": runtime}
    (folder / SITE).write_text(json.dumps(site, indent=2) + "\n", encoding="utf-8")
    (folder / LICENSES).write_text(_licenses(licenses), encoding="utf-8")


def write_shipped(folder: Path) -> None:
    """Write the site of the shipped presets, from their LiteRT files; needs neither Keras nor TensorFlow."""
    pair = find_presets(presets.find("recnet_lite0"))
    write(folder, [(preset, litert_file(preset).read_bytes()) for preset in pair])


def _licenses(of_weights):
    lines = [
        "The page: keras_recnet, Apache License 2.0 (litert/LICENSE has its text).",
        "litert/: LiteRT.js, Google LLC, Apache License 2.0; see litert/README.md.",
        *(f"models/{name}.tflite: {licence}" for name, licence in of_weights.items()),
    ]
    return "\n\n".join(lines) + "\n"
