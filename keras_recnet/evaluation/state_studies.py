"""Predict the maps of groups with a state other than the group's own, to test whether a network uses its group.

If the maps are as good with the state zeroed, or with the state of another group, the group has no influence.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from keras_recnet.errors import ImageError, MissingExtraError
from keras_recnet.inference.group_inputs import GroupJob
from keras_recnet.inference.group_outputs import write_group_maps
from keras_recnet.inference.group_stream import empty_state
from keras_recnet.inference.outputs import OutputWriter, Result


def write_with_state(
    predictor,
    jobs: Iterable[GroupJob],
    writer: OutputWriter,
    *,
    state: str,
    others: Sequence[Sequence[str]],
    advance: Callable[[float], None] = lambda images: None,
) -> Iterator[Result]:
    """Predict groups with a different state and write their maps, see `write_group_maps`.

    Args:
        predictor: a `GroupPredictor`.
        jobs: the groups and the files to write.
        writer: writes the maps.
        state: `"zero"`: the state before the first image; `"other"`: the state of another group; `"reverse"`: the
            state of the images in reversed order.
        others: the images of the other group of each job.
        advance: see `write_group_maps`.

    Yields:
        A `Result` per image.
    """
    predictor = copy.copy(predictor)
    engine = predictor.engine = _EngineWithState(predictor.engine)
    for job, other in zip(jobs, others, strict=True):
        if state == "reverse":
            job = dataclasses.replace(job, images=job.images[::-1])
        else:
            engine.state = empty_state(engine) if state == "zero" else _state_of(predictor, other)
        yield from write_group_maps(predictor, [job], writer, advance=advance)


class _EngineWithState:
    """A `GroupEngine` that decodes with `state` instead of the group's state; None: with the group's."""

    def __init__(self, engine):
        self._engine, self.state = engine, None

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def decode(self, features, state):
        return self._engine.decode(features, state if self.state is None else self.state)


def _state_of(predictor, images):
    """Compute the state of a group; images that cannot be read are left out, as in its prediction."""
    state = empty_state(predictor.engine)
    for image in images:
        try:
            decoded = predictor.read(image)
        except (ImageError, MissingExtraError):
            continue
        state = predictor.engine.advance(predictor.engine.encode(decoded.rgb), state)
    return state
