"""LiteRT files. In a burst, each thread runs its own single-threaded interpreter."""

from pathlib import Path

from keras_recnet.bench import flops
from keras_recnet.bench.candidates import Candidate
from keras_recnet.bench.networks import MAP, Concurrent, GroupNetwork, Network, noise
from keras_recnet.inference.engines import InterpreterPool
from keras_recnet.inference.group_engines import LiteRTGroupEngine

PACKAGES = ("ai-edge-litert",)


class LiteRT(Network):
    """A LiteRT file for single images, float32 or uint8, with XNNPACK on the CPU."""

    def __init__(self, candidate: Candidate, threads: int):
        self._file = Path(candidate.source)
        interpreters = InterpreterPool(self._file, threads=threads, prepare=self._prepare)
        self._single_threaded = None
        super().__init__(
            {MAP: lambda: _run(interpreters)},
            input_shape=self._shape,
            device=interpreters.device,
            threads=threads,
            packages=PACKAGES,
        )

    def burst(self, images):
        if self._single_threaded is None:
            self._single_threaded = InterpreterPool(self._file, threads=1, prepare=self._prepare)
            self._concurrent = Concurrent(self.threads)
        self._concurrent(lambda: _run(self._single_threaded), images)

    def operations(self):
        return {MAP: next(iter(flops.count_litert(self._file).values()))}

    def _prepare(self, interpreter):
        (image,), (saliency,) = interpreter.get_input_details(), interpreter.get_output_details()
        self._shape = tuple(image["shape"].tolist())
        values = noise(self._shape, image["dtype"])

        def run():
            interpreter.set_tensor(image["index"], values)
            interpreter.invoke()
            return interpreter.get_tensor(saliency["index"])

        return run


class LiteRTGroups(GroupNetwork):
    """A LiteRT file with the signatures encode, step and decode."""

    def __init__(self, candidate: Candidate, threads: int):
        self._file, self._single_threaded = Path(candidate.source), None
        engine = LiteRTGroupEngine(self._file, threads=threads)
        super().__init__(engine, device=engine.device, threads=threads, packages=PACKAGES)

    def burst(self, images):
        if self._single_threaded is None:
            self._single_threaded = LiteRTGroupEngine(self._file, threads=1)
            self._concurrent = Concurrent(self.threads)
        self._concurrent(lambda: self.encode(self._single_threaded), images)
        for _ in range(images if self.engine.state_shapes else 0):  # each step needs the previous one
            self.step()
        self._concurrent(lambda: self.decode(self._single_threaded), images)

    def operations(self):
        counts = flops.count_litert(self._file)
        return self.with_group({part: counts[part] for part in self.parts if part in counts})


def _run(interpreters):
    with interpreters.borrow() as run:
        return run()
