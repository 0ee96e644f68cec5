"""How a model of groups is trained: padding weighs nothing, and the loss may see the images."""

import keras
from keras import ops

from keras_recnet.losses import CoSaliencyLoss, StartCoPerceptual


class GroupModel(keras.Model):
    """A functional model with a dict as input, `"mask"` and perhaps `"images"` in it, and one logit a pixel as output.

    `fit` and `evaluate` take `(inputs, masks)` or `(inputs, masks, weights)` with weights `(batch, images)` or
    `(batch,)`.
    """

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **arguments):
        """`keras.Model.fit`; the co-perceptual loss starts at its epoch."""
        if self._compares_images():
            start = StartCoPerceptual(self.loss)
            if isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks.append(start)
            else:
                callbacks = [*keras.tree.flatten(callbacks or []), start]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **arguments)

    def make_train_function(self, force=False):
        # the loss' network cannot be made inside of the function that is traced here
        if self._compares_images() and self.loss.active and "images" in self.input:
            self.loss.prepare(self.input["images"].shape[2:4])
        return super().make_train_function(force)

    def _compares_images(self):
        loss = getattr(self, "loss", None)
        return isinstance(loss, CoSaliencyLoss) and loss.co_perceptual is not None

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        weight = _image_weights(x["mask"], sample_weight)
        if not isinstance(self.loss, CoSaliencyLoss):
            # one value a pixel, as Keras' own losses have it
            shape = ops.shape(y_pred)[:4]
            return super().compute_loss(x, y, y_pred, ops.broadcast_to(ops.expand_dims(weight, (2, 3)), shape))
        total = super().compute_loss(x, y, y_pred, weight)
        if training and self._compares_images() and self.loss.active:
            if "images" not in x:
                raise ValueError(
                    f"The co-perceptual loss needs the images: train the whole model, or give `co_perceptual=None`. "
                    f"Received: inputs {sorted(x)}"
                )
            total = total + self.loss.co_perceptual_term(x["images"], y, y_pred, x["mask"])
        return total

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Metrics see one image after another; `weighted_metrics` leave out padded ones."""
        weight = ops.reshape(_image_weights(x["mask"], sample_weight), (-1,))
        y, y_pred = (ops.reshape(tensor, (-1, *tensor.shape[2:])) for tensor in (y, y_pred))
        return super().compute_metrics(x, y, y_pred, weight)


def _image_weights(mask, sample_weight):
    """`(batch, images)`, float32."""
    weight = ops.cast(mask, "float32")
    if sample_weight is None:
        return weight
    # Keras hands over weights of unknown rank at times
    return weight * ops.reshape(ops.cast(sample_weight, "float32"), (ops.shape(weight)[0], -1))
