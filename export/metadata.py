"""Description of an artifact, for `export.json` and for the LiteRT file itself."""

from pathlib import Path

import keras

MEANINGS = {
    "image": "RGB in 0…255",
    "images": "RGB in 0…255",
    "image_bytes": "JPEG or PNG file, upright",
    "mask": "False for padding",
    "x": "features of the image, for the state of the group",
    "state": "state of the group; before the first image: its x, padded with zeros to the channels of the state",
    "next_state": "state of the group after one more image",
    "saliency": "map in 0…1",
    "foreground": "map in 0…1",
    "background": "map in 0…1",
    "saliency_bytes": "PNG file of the map, 8-bit gray, 255 is 1; empty unless status is 0",
    "status": "0 good, 1 undecodable, 2 too large",
}
FEATURES = "features of the image"
NO_LICENCE = "that of the data on which the weights were trained"


def licence(card: Path) -> str:
    """Return the section on the licence in the card of a preset, or `NO_LICENCE` if there is none."""
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    section, inside = [], False
    for line in lines:
        if line.startswith("#"):
            inside = "licence" in line.lower() or "license" in line.lower()
        elif inside:
            section.append(line.strip())
    return " ".join(filter(None, section)) or NO_LICENCE


def describe(functions: dict, image_dtype: str | None = None) -> dict:
    """Describe the tensors of `tf.function`s.

    Args:
        functions: signature → function.
        image_dtype: dtype of the inputs named `image`; None: the function's own dtype.

    Returns:
        signature → `inputs` and `outputs` → name → `dtype`, `shape` (None: any length) and `meaning`.
    """
    signatures = {}
    for name, function in functions.items():
        concrete = function.get_concrete_function()
        specs, _ = concrete.structured_input_signature
        signatures[name] = {
            "inputs": {spec.name: _tensor(spec.name, spec, name == "decode") for spec in specs},
            "outputs": {
                key: _tensor(key, tensor, name == "encode") for key, tensor in concrete.structured_outputs.items()
            },
        }
        if image_dtype and "image" in signatures[name]["inputs"]:
            signatures[name]["inputs"]["image"]["dtype"] = image_dtype
    return signatures


def describe_models(parts: dict) -> dict:
    """Describe the tensors of Keras models that map dicts to dicts, as `describe` does."""
    return {
        signature: {
            "inputs": {name: _tensor(name, tensor, signature == "decode") for name, tensor in part.input.items()},
            "outputs": {name: _tensor(name, tensor, signature == "encode") for name, tensor in part.output.items()},
        }
        for signature, part in parts.items()
    }


def _tensor(name, spec, is_feature):
    # a feature of RecNet is called `foreground`, like a map
    meaning = FEATURES if is_feature and name in ("foreground", "background") else MEANINGS.get(name, FEATURES)
    return {"dtype": keras.backend.standardize_dtype(spec.dtype), "shape": list(spec.shape), "meaning": meaning}
