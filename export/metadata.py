"""Description of an artifact, for `export.json` and for the LiteRT file itself."""

from pathlib import Path

import keras

MEANINGS = {
    "image": "RGB in 0…255",
    "images": "RGB in 0…255",
    "image_bytes": "JPEG or PNG file, upright",
    "mask": "False for padding",
    "saliency": "map in 0…1",
    "foreground": "map in 0…1",
    "background": "map in 0…1",
    "saliency_bytes": "PNG file of the map, 8-bit gray, 255 is 1; empty unless status is 0",
    "status": "0 good, 1 undecodable, 2 too large",
}
GROUP = ("encode", "step", "decode")
FEATURES, STATE = "features of the image", "state of the group; 0 before the first image"
NO_LICENCE = "that of the data on which the weights were trained"


def licence(card: Path) -> str:
    """Return the section on the license in the card of a preset, or `NO_LICENCE` if there is none."""
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
    described = {name: function.get_concrete_function() for name, function in functions.items()}
    state = set(described["step"].structured_outputs) if "step" in described else set()
    signatures = {}
    for name, concrete in described.items():
        specs, _ = concrete.structured_input_signature
        features = name in GROUP
        signatures[name] = {
            "inputs": {spec.name: _tensor(spec.name, spec, features, state) for spec in specs},
            "outputs": {
                key: _tensor(key, tensor, features, state) for key, tensor in concrete.structured_outputs.items()
            },
        }
        if image_dtype and "image" in signatures[name]["inputs"]:
            signatures[name]["inputs"]["image"]["dtype"] = image_dtype
    return signatures


def describe_models(parts: dict) -> dict:
    """Describe the tensors of Keras models that map dicts to dicts, as `describe` does."""
    state = set(parts["step"].output) if "step" in parts else set()
    state |= {name.removeprefix("next_") for name in state}
    return {
        signature: {
            kind: {name: _tensor(name, tensor, signature in GROUP, state) for name, tensor in tensors.items()}
            for kind, tensors in (("inputs", part.input), ("outputs", part.output))
        }
        for signature, part in parts.items()
    }


def _tensor(name, spec, of_group, state):
    # a feature may be called `foreground`, like a map
    is_feature = of_group and name not in ("image", "saliency")
    meaning = STATE if name in state else FEATURES if is_feature else MEANINGS.get(name, FEATURES)
    return {"dtype": keras.backend.standardize_dtype(spec.dtype), "shape": list(spec.shape), "meaning": meaning}
