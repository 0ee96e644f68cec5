"""LiteRT files. A burst of pictures is worked off by one interpreter of one thread for each of the threads."""

from pathlib import Path

from keras_recnet.bench import flops
from keras_recnet.bench.candidates import Contestant
from keras_recnet.bench.networks import MAP, AtOnce, GroupNetwork, Network, noise
from keras_recnet.inference.engines import InterpreterPool
from keras_recnet.inference.group_engines import LiteRTGroupEngine

PACKAGES = ("ai-edge-litert",)


class LiteRT(Network):
    """A file of single pictures, float32 or uint8, with XNNPACK on the CPU."""

    def __init__(self, contestant: Contestant, threads: int):
        self._file = Path(contestant.source)
        interpreters = InterpreterPool(self._file, threads=threads, prepare=self._prepared)
        self._of_one_thread = None
        super().__init__(
            {MAP: lambda: _run(interpreters)},
            input_shape=self._shape,
            device=interpreters.device,
            threads=threads,
            packages=PACKAGES,
        )

    def burst(self, pictures):
        if self._of_one_thread is None:
            self._of_one_thread = InterpreterPool(self._file, threads=1, prepare=self._prepared)
            self._at_once = AtOnce(self.threads)
        self._at_once(lambda: _run(self._of_one_thread), pictures)

    def operations(self):
        return {MAP: next(iter(flops.of_litert(self._file).values()))}

    def _prepared(self, interpreter):
        (image,), (saliency,) = interpreter.get_input_details(), interpreter.get_output_details()
        self._shape = tuple(image["shape"].tolist())
        picture = noise(self._shape, image["dtype"])

        def run():
            interpreter.set_tensor(image["index"], picture)
            interpreter.invoke()
            return interpreter.get_tensor(saliency["index"])

        return run


class LiteRTGroups(GroupNetwork):
    """A file with the signatures encode, step and decode."""

    def __init__(self, contestant: Contestant, threads: int):
        self._file, self._of_one_thread = Path(contestant.source), None
        engine = LiteRTGroupEngine(self._file, threads=threads)
        super().__init__(engine, device=engine.device, threads=threads, packages=PACKAGES)

    def burst(self, pictures):
        if self._of_one_thread is None:
            self._of_one_thread = LiteRTGroupEngine(self._file, threads=1)
            self._at_once = AtOnce(self.threads)
        self._at_once(lambda: self.encode(self._of_one_thread), pictures)
        for _ in range(pictures if self.engine.has_state else 0):  # each step needs the one before
            self.step()
        self._at_once(lambda: self.decode(self._of_one_thread), pictures)

    def operations(self):
        counts = flops.of_litert(self._file)
        return self.with_group({part: counts[part] for part in self.parts if part in counts})


def _run(interpreters):
    with interpreters.borrow() as run:
        return run()
