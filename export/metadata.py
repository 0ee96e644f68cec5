"""What stands in `export.json`, and in a LiteRT file itself, about an artifact."""

from pathlib import Path

MEANINGS = {
    "image": "RGB in 0…255",
    "images": "RGB in 0…255",
    "image_bytes": "the bytes of a JPEG or PNG file, upright",
    "mask": "False where a group is padded",
    "x": "the image's features for the group",
    "state": "what the images so far have in common; before the first image: its x, then channels of zeros",
    "saliency": "map in 0…1",
    "foreground": "map in 0…1",
    "background": "map in 0…1",
    "saliency_bytes": "PNG file of the map, 8 bits grey, 255 is 1; empty unless status is 0",
    "status": "0 good, 1 undecodable, 2 too large",
}
FEATURES = "the image's features"
INPUT_DTYPES = ("float32", "uint8")  # of a LiteRT file's images
NO_LICENCE = "that of the data which the weights were trained on"


def licence(card: Path) -> str:
    """What a preset's card says under its heading about the licence; without such a card, `NO_LICENCE`."""
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    section, inside = [], False
    for line in lines:
        if line.startswith("#"):
            inside = "licence" in line.lower() or "license" in line.lower()
        elif inside:
            section.append(line.strip())
    return " ".join(filter(None, section)) or NO_LICENCE


def of_functions(functions: dict, image_dtype: str | None = None) -> dict:
    """Signature → inputs and outputs → name → `dtype`, `shape` (None: any) and `meaning`, of `tf.function`s.

    `image_dtype` is that of an input `image`, where it is not that of the function.
    """
    described = {}
    for name, function in functions.items():
        concrete = function.get_concrete_function()
        specs, _ = concrete.structured_input_signature
        described[name] = {
            "inputs": {spec.name: _tensor(spec.name, spec, name == "decode") for spec in specs},
            "outputs": {
                key: _tensor(key, tensor, name == "encode") for key, tensor in concrete.structured_outputs.items()
            },
        }
        if image_dtype and "image" in described[name]["inputs"]:
            described[name]["inputs"]["image"]["dtype"] = image_dtype
    return described


def _tensor(name, spec, is_feature):
    # RecNet's features have the name of a map
    meaning = FEATURES if is_feature and name in ("foreground", "background") else MEANINGS.get(name, FEATURES)
    shape = spec.shape.as_list()
    return {"dtype": spec.dtype.name, "shape": shape, "meaning": meaning}
