"""Log of the scores of every map, so that an interrupted evaluation resumes.

`per_image.jsonl` has one line of JSON per map, appended when the map is scored. A line is valid only for files with the
same SHA-256 checksums: changed maps and masks are scored again, moved or copied ones are not.
"""

import base64
import dataclasses
import json
import os
import zlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from keras_recnet.errors import DiskError
from keras_recnet.evaluation.scoring import Counts
from keras_recnet.files import atomic_path, is_disk_full

# Increase the first number when a metric or the reading of files changes, so that older results are scored again.
HEADER = {"keras_recnet_evaluation": 2, "pysodmetrics": version("pysodmetrics")}


@dataclasses.dataclass(frozen=True)
class Record:
    """The scores of one map.

    Attributes:
        data_set, method, name: names of the dataset, the method and the image.
        sums: SHA-256 checksums of the mask file and the map file.
        size: `(height, width)` of the mask.
        values: metric → value.
        counts: pixel counts for the curves; None for a distractor.
        notes: see `keras_recnet.evaluation.scoring.Score` and `keras_recnet.evaluation.map_files.read_map`.
    """

    data_set: str
    method: str
    name: str
    sums: tuple[str, str]
    size: tuple[int, int]
    values: dict[str, float]
    counts: Counts | None
    notes: list[str]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.data_set, self.method, self.name

    def to_json(self) -> str:
        counts = self.counts and {"mask": self.counts.object_pixels, "data": _packed(self.counts)}
        return json.dumps({**self.__dict__, "counts": counts})

    @classmethod
    def from_json(cls, line: str) -> "Record":
        fields = json.loads(line)
        size = tuple(fields["size"])
        counts = fields["counts"] and _unpacked(fields["counts"], size)
        return cls(**{**fields, "sums": tuple(fields["sums"]), "size": size, "counts": counts})


class ResultLog:
    """The log file of an evaluation; a context manager that keeps it open for appending.

    Args:
        path: the log file. A log of a different version is replaced; an incomplete line is dropped.
        merge: other log files, such as those of shards, whose records are added.

    Attributes:
        records: `Record.key` → `Record`, of earlier runs and of this one.
    """

    def __init__(self, path: str | os.PathLike, merge: Iterable[Path] = ()):
        self.path = Path(path)
        self.merge = list(merge)
        self.records: dict[tuple[str, str, str], Record] = {}

    def __enter__(self):
        for path in (self.path, *self.merge):
            self._read(path)
        with atomic_path(self.path) as temporary:  # without incomplete and outdated lines
            lines = [json.dumps(HEADER), *(record.to_json() for record in self.records.values())]
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_):
        self._file.close()

    def add(self, record: Record) -> None:
        """Append a record; it survives if the process is killed afterwards.

        Raises:
            DiskError: if the disk is full.
        """
        self.records[record.key] = record
        try:
            self._file.write(record.to_json() + "\n")
            self._file.flush()
        except OSError as error:
            if is_disk_full(error):
                raise DiskError(f"{self.path}: the disk is full. Free some space and run the command again.") from error
            raise

    def _read(self, path):
        if not path.is_file():
            return
        lines = path.read_bytes().splitlines(keepends=True)
        if not lines or lines[0].rstrip() != json.dumps(HEADER).encode():
            return
        for line in lines[1:]:
            try:
                record = Record.from_json(line.decode())
            except (ValueError, KeyError, TypeError, zlib.error):  # incomplete
                continue
            self.records[record.key] = record


def _packed(counts):
    data = np.stack([counts.true_positives, counts.false_positives]).astype("<u4").tobytes()
    return base64.b64encode(zlib.compress(data, 1)).decode()


def _unpacked(counts, size):
    data = np.frombuffer(zlib.decompress(base64.b64decode(counts["data"])), "<u4").astype(np.int64)
    true_positives, false_positives = data.reshape(2, -1)
    return Counts(true_positives, false_positives, counts["mask"], size[0] * size[1])
