"""Models to preset folders and back."""

import os
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np

import keras_recnet
from keras_recnet import presets
from keras_recnet.errors import PresetError
from keras_recnet.files import atomic_path

FLOAT16_MAX = float(np.finfo("float16").max)


def save(model: keras.Model, folder: str | os.PathLike, entries: dict) -> None:
    """Writes a model's configuration and weights into a preset folder.

    The weights come from a fresh, uncompiled copy, so that neither an optimizer's slots nor a loss's layers land in
    the file. Arrays of two and more dimensions are stored as float16, compressed without loss; vectors and scalars
    (biases, normalisation, gains) stay float32, since small variances would be lost.

    Args:
        model: one whose class rebuilds it from `get_config()`.
        folder: where to.
        entries: what `config.json` says besides class, arguments and sums.

    Raises:
        ValueError: if a weight is not finite or too large for float16.
        DiskError: if the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    fresh = type(model).from_config(model.get_config())
    fresh.set_weights(model.get_weights())
    with atomic_path(folder / presets.WEIGHTS) as temporary:
        # Keras wants the whole ending `.weights.h5`
        full = temporary.with_name(f"{temporary.stem}.full.weights.h5")
        try:
            fresh.save_weights(full)
            with h5py.File(full) as source, h5py.File(temporary, "w", libver="latest") as target:
                _copy(source, target)
        finally:
            full.unlink(missing_ok=True)
    config = {
        "class": type(model).__name__,
        "arguments": model.get_config(),
        "image_size": list(model.image_size),
        "keras_recnet": keras_recnet.__version__,
        **entries,
    }
    presets.write_config(folder, config, [presets.WEIGHTS])


def load(cls: type, name_or_folder: str | os.PathLike, overrides: dict) -> keras.Model:
    """Builds the model of a preset and loads its weights, as float32.

    Raises:
        PresetError: if there is no such preset, it belongs to another class, is damaged, or its weights do not fit.
    """
    found = presets.find(name_or_folder)
    if found.config.get("class") != cls.__name__:
        raise PresetError(f"{found.folder}: holds a {found.config.get('class')}, not a {cls.__name__}.")
    found.check_size(overrides.get("image_size"))
    weights = found.file(presets.WEIGHTS)
    model = cls.from_config({**found.config["arguments"], "backbone_weights": None, **overrides})
    error = None
    # Keras warns of weights that it leaves at their random start, sometimes on the way to the real error.
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        try:
            model.load_weights(weights)
        except (OSError, ValueError, KeyError) as raised:
            error = raised
    if error or warned:
        raise PresetError(
            f"{weights}: does not fit the model ({error or warned[0].message}). "
            f"Received: arguments={found.config['arguments']}, overrides={overrides}"
        ) from error
    return model


def _copy(source, target):
    for name, value in source.attrs.items():
        target.attrs[name] = value
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy(item, target.create_group(name))
            continue
        array = item[()]
        if not np.isfinite(array).all() or (array.ndim > 1 and np.abs(array).max(initial=0) > FLOAT16_MAX):
            raise ValueError(f"The weights {item.name} are not finite or too large for float16; nothing was saved.")
        if array.ndim > 1:
            stored = target.create_dataset(name, data=array.astype("float16"), compression="gzip", shuffle=True)
        else:
            stored = target.create_dataset(name, data=array)
        for key, value in item.attrs.items():
            stored.attrs[key] = value
