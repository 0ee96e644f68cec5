"""Saving models to preset folders and loading them."""

import os
import typing
import warnings
from pathlib import Path
from typing import Self

import h5py
import numpy as np

import keras_recnet
from keras_recnet import presets
from keras_recnet.errors import PresetError
from keras_recnet.files import atomic_path
from keras_recnet.presets import _schema

FLOAT16_MAX = float(np.finfo("float16").max)
# Compact, and readable by HDF5 1.10 and later; "latest" would be the version of the writing library.
HDF5_VERSIONS = ("v110", "v110")


class PresetModel:
    """Mixin for models that are saved to and loaded from preset folders.

    A subclass sets `task` and returns its constructor arguments from `get_config()`.

    Attributes:
        task: `"saliency"` or `"cosaliency"`, stored in `config.json`.
    """

    task: str

    @classmethod
    def from_preset(cls, name_or_folder: str | os.PathLike, **overrides) -> Self:
        """Build the model of a preset and load its weights as float32.

        Args:
            name_or_folder: name of a preset that ships with the library, or a folder written by `save_to_preset`.
            **overrides: constructor arguments to change, such as `image_size`. The weights must still fit: those of a
                recurrent co-attention unit with a spatial map fit only one `image_size`.

        Raises:
            PresetError: if the preset does not exist, is damaged or for a different task, or if its weights do not fit.
        """
        preset = presets.find(name_or_folder)
        if preset.task != cls.task:
            raise PresetError(f"{preset.folder}: a preset for {preset.task}; {cls.__name__} is for {cls.task}.")
        preset.check_size(overrides.get("image_size"))
        weights = preset.file(presets.WEIGHTS)
        model = cls._build(preset, overrides)
        error = None
        # Keras only warns about weights that it does not find in the file, sometimes before raising another error.
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", UserWarning)
            try:
                model.load_weights(weights)
            except (OSError, ValueError, KeyError) as raised:
                error = raised
        if error or warned:
            raise PresetError(
                f"{weights}: does not fit the model ({error or warned[0].message}). "
                f"Received: arguments={preset.config['arguments']}, overrides={overrides}"
            ) from error
        return model

    @classmethod
    def _build(cls, preset, overrides):
        """Build a preset's model, and attribute errors that overrides do not cause to the preset's `config.json`."""
        arguments, path = preset.config["arguments"], preset.folder / presets.CONFIG
        if problem := _schema.problem(arguments, cls.argument_types(), "arguments"):
            raise PresetError(
                f"{path}: {problem} It was written by version {preset.config.get('keras_recnet', 'unknown')} of "
                f"keras-recnet, this is version {keras_recnet.__version__}: upgrade, or copy the preset again."
            )
        try:
            return cls.from_config({**arguments, "backbone_weights": None, **overrides})
        except Exception as error:
            if overrides:
                raise
            raise PresetError(f"{path}: arguments: {error} Copy the preset again.") from error

    @classmethod
    def argument_types(cls) -> type:
        """Return the constructor arguments and their types as a `TypedDict`."""
        types = typing.get_type_hints(cls.__init__)
        return typing.TypedDict("Arguments", types, total=False)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)

    def save_to_preset(self, folder: str | os.PathLike, **entries) -> None:
        """Write `config.json` and `model.weights.h5` to a folder, which is created if it does not exist.

        The weights are saved from a new, uncompiled copy, so that the file contains neither optimizer state nor layers
        of a loss. Arrays with two or more dimensions are stored as float16 with lossless compression. Vectors and
        scalars (biases, normalization, gains) stay float32, because float16 would round small variances to 0.

        Args:
            folder: the preset folder. Existing files are replaced.
            **entries: further entries for `config.json`.

        Raises:
            ValueError: if a weight is not finite or too large for float16.
            DiskError: if the disk is full or the folder cannot be written.
        """
        folder = Path(folder)
        fresh = type(self).from_config(self.get_config())
        fresh.set_weights(self.get_weights())
        with atomic_path(folder / presets.WEIGHTS) as temporary:
            # Keras requires the full suffix `.weights.h5`.
            full = temporary.with_name(f"{temporary.stem}.full.weights.h5")
            try:
                fresh.save_weights(full)
                with h5py.File(full) as source, h5py.File(temporary, "w", libver=HDF5_VERSIONS) as target:
                    _copy(source, target)
            finally:
                full.unlink(missing_ok=True)
        config = {
            "class": type(self).__name__,
            "arguments": self.get_config(),
            "image_size": list(self.image_size),
            "keras_recnet": keras_recnet.__version__,
            "task": self.task,
            **entries,
        }
        presets.write_config(folder, config, [presets.WEIGHTS])


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
