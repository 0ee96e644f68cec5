"""Training of models for groups: padding has weight 0, and the loss may use the images."""

import keras
from keras import ops

from keras_recnet.losses import CoSaliencyLoss, StartCoPerceptual


class GroupModel(keras.Model):
    """A functional model from a dict with `"mask"`, and optionally `"images"`, to logits of every image of a group.

    `fit` and `evaluate` take `(inputs, masks)` or `(inputs, masks, weights)` with sample weights `(batch, images)` or
    `(batch,)`.
    """

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **arguments):
        """Same as `keras.Model.fit`, but also enables the co-perceptual loss at its `start_epoch`."""
        if self._has_co_perceptual_loss():
            start = StartCoPerceptual(self.loss)
            if isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks.append(start)
            else:
                callbacks = [*keras.tree.flatten(callbacks or []), start]
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **arguments)

    def make_train_function(self, force=False):
        # The network of the loss cannot be built inside the traced function.
        if self._has_co_perceptual_loss() and self.loss.active and "images" in self.input:
            self.loss.prepare(self.input["images"].shape[2:4])
        return super().make_train_function(force)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under `tf.distribute`, Keras builds metrics and loss with the sum of a batch over the replicas, but boolean
        # masks cannot be summed. Only shapes and types matter: use the batch of the first replica.
        if self.distribute_strategy is not None and iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda value: self.distribute_strategy.experimental_local_results(value)[0], next(batches)
            )
        super()._maybe_symbolic_build(None if data_batch is not None else iterator, data_batch)

    def _has_co_perceptual_loss(self):
        loss = getattr(self, "loss", None)
        return isinstance(loss, CoSaliencyLoss) and loss.co_perceptual is not None

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        weight = _image_weights(x["mask"], sample_weight)
        if not isinstance(self.loss, CoSaliencyLoss):
            # Keras' own losses take one weight per pixel.
            shape = ops.shape(y_pred)[:4]
            return super().compute_loss(x, y, y_pred, ops.broadcast_to(ops.expand_dims(weight, (2, 3)), shape))
        total = super().compute_loss(x, y, y_pred, weight)
        if training and self._has_co_perceptual_loss() and self.loss.active:
            if "images" not in x:
                raise ValueError(
                    f"The co-perceptual loss needs the images: train the whole model, or use `co_perceptual=None`. "
                    f"Received: inputs {sorted(x)}"
                )
            total = total + self.loss.co_perceptual_term(x["images"], y, y_pred, x["mask"])
        return total

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Compute metrics per image; padding has weight 0 in `weighted_metrics`."""
        weight = ops.reshape(_image_weights(x["mask"], sample_weight), (-1,))
        y, y_pred = (ops.reshape(tensor, (-1, *tensor.shape[2:])) for tensor in (y, y_pred))
        return super().compute_metrics(x, y, y_pred, weight)


def _image_weights(mask, sample_weight):
    """Sample weights `(batch, images)`, float32, 0 for padding."""
    weight = ops.cast(mask, "float32")
    if sample_weight is None:
        return weight
    # Keras sometimes passes weights of unknown rank.
    return weight * ops.reshape(ops.cast(sample_weight, "float32"), (ops.shape(weight)[0], -1))
