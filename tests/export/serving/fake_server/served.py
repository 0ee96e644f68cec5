"""A SavedModel in a session, as TF Serving runs it."""

from pathlib import Path

import tensorflow as tf
from batching import Batcher
from errors import StatusError

DEFAULT = "serving_default"


class Model:
    """A SavedModel: the newest version in a folder.

    Args:
        name: name of the model for clients.
        folder: folder with a subfolder for each version, `1`, `2`, …
        parameters: batching parameters; None: no batching.
    """

    def __init__(self, name, folder, parameters=None):
        self.name = name
        self.version = max(int(path.name) for path in Path(folder).iterdir() if path.name.isdigit())
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], str(Path(folder) / str(self.version)))
        self.signatures = {
            name: signature for name, signature in loaded.signature_def.items() if not name.startswith("__")
        }
        self.batcher = Batcher(self._run, parameters) if parameters is not None else None

    def signature(self, name, code="FAILED_PRECONDITION"):
        name = name or DEFAULT
        if name not in self.signatures:
            raise StatusError(code, f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def predict(self, signature_name, tensors, wanted=()):
        """Run a signature and return its outputs by name.

        Args:
            signature_name: `serving_default` if empty.
            tensors: name → array.
            wanted: names of the outputs; all if empty.
        """
        signature = self.signature(signature_name)
        missing, extra = sorted(set(signature.inputs) - set(tensors)), sorted(set(tensors) - set(signature.inputs))
        if missing or extra:
            raise StatusError(
                "INVALID_ARGUMENT",
                f"input size does not match signature. Sent extra: {{{','.join(extra)}}}. Missing but required: "
                f"{{{','.join(missing)}}}.",
            )
        if unknown := sorted(set(wanted) - set(signature.outputs)):
            raise StatusError("INVALID_ARGUMENT", f"output tensor alias not found in signature: {', '.join(unknown)}")
        key = (signature_name or DEFAULT, tuple(sorted(wanted or signature.outputs)))
        return self.batcher(key, tensors) if self.batcher else self._run(key, tensors)

    def _run(self, key, tensors):
        inputs, outputs = self.signatures[key[0]].inputs, self.signatures[key[0]].outputs
        for place, (name, array) in enumerate(tensors.items()):
            # unlike TF Serving, a session in Python would convert the array
            if tf.as_dtype(array.dtype) != (expected := tf.as_dtype(inputs[name].dtype)):
                raise StatusError(
                    "INVALID_ARGUMENT",
                    f"Expects arg[{place}] to be {expected.name} but {tf.as_dtype(array.dtype).name} is provided",
                )
        try:
            values = self._session.run(
                [outputs[name].name for name in key[1]], {inputs[name].name: array for name, array in tensors.items()}
            )
        except tf.errors.OpError as error:
            raise StatusError(_CODES.get(error.error_code, "UNKNOWN"), error.message) from error
        except (TypeError, ValueError) as error:  # raised by Python before TensorFlow is called
            raise StatusError("INVALID_ARGUMENT", str(error)) from error
        return dict(zip(key[1], values, strict=True))


_CODES = {value: name for name, value in vars(tf.errors).items() if name.isupper() and isinstance(value, int)}
