"""A bulk job: images in blocks, processed by Ray actors that write one output file or folder, with resume."""

import collections
import dataclasses
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator

from keras_recnet import presets
from keras_recnet.bulk import storage
from keras_recnet.bulk.cluster import actor_options, default_actors, import_ray
from keras_recnet.bulk.inputs import Item
from keras_recnet.bulk.prediction import GroupWorker, ImageWorker, Row
from keras_recnet.errors import ConfigError, DiskError, RecNetError
from keras_recnet.files import sha256
from keras_recnet.inference.outputs import Result

FORMATS = ("files", "parquet", "webdataset")
SUFFIXES = {"parquet": ".parquet", "webdataset": ".tar"}
# readers of parquet datasets ignore folders whose name starts with an underscore
JOURNAL, SETTINGS, ATTEMPTS = "_journal", "settings.json", "attempts"
_JOURNAL_NAME = re.compile(r"\d{8}\.json")  # other files may be leftovers of a killed process
SMALLEST_BLOCK, LARGEST_BLOCK = 16, 1024  # images per block
BLOCKS_PER_ACTOR = 8
KILLS = 2  # an item that has killed this many actors gets an error and is skipped


@dataclasses.dataclass(frozen=True)
class Job:
    """A bulk job.

    The items are divided into blocks. An actor predicts a block, writes its maps, and then a file `_journal/N.json`
    that lists the block's items and errors. A job that is started again skips the items in these files.

    If an actor is killed, Ray starts it again and repeats its block. An item that kills two actors gets an error; see
    `_Attempts`.

    Args:
        items: the images or groups.
        out: path or URI of the output folder.
        format: `"files"` writes a PNG file per image; `"parquet"` and `"webdataset"` write a file `part-N` per block.
        grouped: whether the items are groups.
        options: arguments of the predictor.
        actors: see `keras_recnet.bulk.predict`.
    """

    items: list[Item]
    out: str
    format: str
    grouped: bool
    options: dict
    actors: int | None = None

    def finished(self) -> dict[str, dict[str, str]]:
        """Return the items that an earlier run finished: item → path of an image → error.

        Raises:
            ConfigError: if the folder has the output of a job with other settings, or files of another program.
        """
        settings, path = self._settings(), storage.join(self.out, JOURNAL, SETTINGS)
        names = storage.names_in(storage.join(self.out, JOURNAL))
        if SETTINGS not in names:
            if self._parts():
                raise ConfigError(f"{self.out}: this folder already has files named part-…. Choose another folder.")
            return {}
        before = json.loads(storage.read(path))
        if changed := [
            f"{key}: {before.get(key)!r} → {value!r}" for key, value in settings.items() if before.get(key) != value
        ]:
            raise ConfigError(
                f"{self.out}: this folder has the output of a job with other settings (then → now): "
                f"{'; '.join(changed)}. Choose another folder."
            )
        finished = {}
        for name in filter(_JOURNAL_NAME.fullmatch, names):
            finished |= json.loads(storage.read(storage.join(self.out, JOURNAL, name)))
        return finished

    def run(self, finished: dict, *, advance: Callable[[float], object], written: list[str]) -> Iterator[Result]:
        """Process the items that are not finished. Needs a connection to Ray.

        Args:
            finished: result of `finished()`.
            advance: called with the number of newly finished images.
            written: list to which the names of written files are appended.

        Yields:
            A `Result` per image: first those of finished items, with `skipped`, then the others as blocks are done.

        Raises:
            DiskError: if the output cannot be written. Finished blocks are kept.
            RecNetError: if the job fails for another reason, for example because actors are killed again and again.
        """
        for item in self.items:
            if item.name in finished:
                yield from self._results(item, finished[item.name], advance, skipped=True)
        self._clean()
        storage.write(storage.join(self.out, JOURNAL, SETTINGS), json.dumps(self._settings(), indent=1).encode())
        waiting = [item for item in self.items if item.name not in finished]
        if not waiting:
            return
        ray = import_ray()
        blocks = self._blocks(waiting)
        rows = [{"block": number, "items": _to_json(items)} for number, items in blocks.items()]
        pool = actor_options(self.actors, None, self.options.get("engine"))
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _BlockWriter, fn_constructor_args=(self.out, self.format, self.grouped, self.options), **pool
        )
        try:
            for row in dataset.iter_rows():
                if row["error"]:
                    raise DiskError(row["error"]) if row["disk"] else _failure(row["error"])
                done = json.loads(row["done"])
                for item in blocks[row["block"]]:
                    yield from self._results(item, done[item.name], advance)
                    written += item.outputs if self.format == "files" else []
                written += [] if self.format == "files" else [_part(row["block"], self.format)]
        except (ray.exceptions.RayError, OSError) as error:
            raise _failure(error) from error

    def _settings(self):
        preset = presets.find(self.options["preset"])
        return {
            "format": self.format,
            "grouped": self.grouped,
            # the configuration contains the checksums of the weights
            "preset": f"{preset.name} {sha256(preset.folder / presets.CONFIG)[:16]}",
            **{name: self.options.get(name) for name in ("engine", "flip", "max_pixels")},
            "size": self.options.get("size") and list(self.options["size"]),
        }

    def _parts(self):
        """Return the names of the blocks' files. With the format `files`, such a name is that of a photo's map."""
        if self.format == "files":
            return []
        pattern = re.compile(r"part-\d{8}" + re.escape(SUFFIXES[self.format]))
        return list(filter(pattern.fullmatch, storage.names_in(self.out)))

    def _clean(self):
        """Delete the parts and attempts of blocks that an interrupted run did not finish."""
        journal = {name.partition(".")[0] for name in storage.names_in(storage.join(self.out, JOURNAL))}
        for name in self._parts():
            if name.removeprefix("part-").partition(".")[0] not in journal:
                storage.delete(storage.join(self.out, name))
        attempts = storage.join(self.out, JOURNAL, ATTEMPTS)
        for name in storage.names_in(attempts):
            storage.delete(storage.join(attempts, name))

    def _blocks(self, items):
        """Return the items of each block by its number. Numbering continues after the blocks of an earlier run."""
        actors = self.actors or default_actors(0)
        images = sum(len(item.paths) for item in items)
        size = min(LARGEST_BLOCK, max(SMALLEST_BLOCK, images // (BLOCKS_PER_ACTOR * actors)))
        names = filter(_JOURNAL_NAME.fullmatch, storage.names_in(storage.join(self.out, JOURNAL)))
        number = 1 + max((int(name.partition(".")[0]) for name in names), default=-1)
        blocks, filled = {number: []}, 0
        for item in items:
            if filled >= size:
                number, filled = number + 1, 0
                blocks[number] = []
            blocks[number].append(item)
            filled += len(item.paths)
        return blocks

    def _results(self, item, errors, advance, skipped=False):
        for path in item.paths:
            advance(1)
            yield Result(path, error=errors.get(path), skipped=skipped, group=item.name if self.grouped else None)


class _BlockWriter:
    """Actor that predicts and writes one block at a time."""

    max_attempts = 20  # per block

    def __init__(self, out, format, grouped, options):
        self.out, self.format, self.grouped = out, format, grouped
        self.worker = GroupWorker(options) if grouped else ImageWorker(options)

    def __call__(self, row):
        answer = {"block": row["block"], "done": "", "error": "", "disk": False}
        try:
            return {**answer, "done": self._write(row)}
        except DiskError as error:
            return {**answer, "error": str(error), "disk": True}
        except RecNetError as error:
            return {**answer, "error": str(error)}

    def _write(self, row):
        number, items = row["block"], [Item(**item) for item in json.loads(row["items"])]
        attempts = _Attempts(storage.join(self.out, JOURNAL, ATTEMPTS, f"{number:08d}.json"), self.max_attempts)
        results = self._predict(items) if attempts.number == 1 else self._predict_again(items, attempts)
        done = {}
        part = None if self.format == "files" else {"parquet": _Parquet, "webdataset": _WebDataset}[self.format](number)
        for item, rows in results:
            done[item.name] = {row.path: row.error for row in rows if row.error}
            if part:
                part.add(item, rows, self.grouped)
                continue
            for row, output in zip(rows, item.outputs, strict=True):
                if row.map is not None:
                    storage.write(storage.join(self.out, output), row.png())
        if part:
            storage.write(storage.join(self.out, _part(number, self.format)), part.data())
        done = json.dumps(done)
        storage.write(storage.join(self.out, JOURNAL, f"{number:08d}.json"), done.encode())
        attempts.delete()
        return done

    def _predict(self, items):
        if self.grouped:
            return ((item, list(self.worker.rows(item.paths))) for item in items)
        rows = self.worker.rows([item.paths[0] for item in items])
        return ((item, [row]) for item, row in zip(items, rows, strict=True))

    def _predict_again(self, items, attempts):
        for item in items:
            if attempts.killed[item.name] < KILLS:
                attempts.note(item.name)
                yield item, list(self.worker.rows(item.paths))
            else:
                reason = (
                    "the process was killed each time it read this image; perhaps there is not enough memory for it."
                )
                yield item, [Row(path, error=f"{path}: {reason}") for path in item.paths]
        attempts.note(None)


class _Attempts:
    """The attempts to process a block, in a file that each attempt updates.

    Ray repeats a block without limit when its actor is killed, for example by the system when memory runs out. To
    find items that kill their actor each time, every attempt but the first notes each item before it is processed.

    Attributes:
        number: number of this attempt, from 1.
        killed: how many attempts each item has killed; the first one does not count.

    Raises:
        RecNetError: if there were too many attempts.
    """

    def __init__(self, location, limit):
        self._location = location
        try:
            before = json.loads(storage.read(location))
        except OSError:
            before = {"number": 0, "killed": {}, "item": None}
        self.number, self.killed = before["number"] + 1, collections.Counter(before["killed"])
        self.killed.update(filter(None, [before["item"]]))
        if self.number > limit:
            raise RecNetError(
                f"the process of a block was killed {limit} times, the last time at {before['item']}. There may not "
                f"be enough memory; use fewer actors (--actors)"
            )
        self.note(None)

    def note(self, item):
        state = {"number": self.number, "killed": self.killed, "item": item}
        storage.write(self._location, json.dumps(state).encode())

    def delete(self):
        storage.delete(self._location)


class _Parquet:
    """A table with the columns of `keras_recnet.bulk.predict`."""

    def __init__(self, number):
        self.columns = {}

    def add(self, item, rows, grouped):
        values = {
            "path": [row.path for row in rows],
            "map": [row.png() for row in rows],
            "box": [row.box for row in rows],
            "mean": [row.mean for row in rows],
            "error": [row.error for row in rows],
        }
        if grouped:
            names = ("paths", "maps", "boxes", "means", "errors")
            lists = {name: [value] for name, value in zip(names, values.values(), strict=True)}
            values = {"group": [item.name], **lists}
        for name, value in values.items():
            self.columns.setdefault(name, []).extend(value)

    def data(self):
        import pyarrow as pa
        from pyarrow import parquet

        box, text = pa.list_(pa.int32()), pa.string()
        types = {"group": text, "path": text, "map": pa.binary(), "box": box, "mean": pa.float32(), "error": text}
        lists = {"paths": text, "maps": pa.binary(), "boxes": box, "means": pa.float32(), "errors": text}
        types |= {name: pa.list_(kind) for name, kind in lists.items()}
        table = pa.table({name: pa.array(values, types[name]) for name, values in self.columns.items()})
        stream = pa.BufferOutputStream()
        parquet.write_table(table, stream)
        return stream.getvalue().to_pybytes()


class _WebDataset:
    """A tar file with `KEY.png` and `KEY.json` per image; for a group `KEY.0000.png`, … and one `KEY.json`."""

    def __init__(self, number):
        self.number, self.count = number, 0
        self.stream = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.stream, mode="w")  # noqa: SIM115  # closed in `data`

    def add(self, item, rows, grouped):
        key = f"{self.number:08d}-{self.count:06d}"
        self.count += 1
        for index, row in enumerate(rows):
            if row.map is not None:
                self._add(f"{key}.{index:04d}.png" if grouped else f"{key}.png", row.png())
        images = [{"path": row.path, "box": row.box, "mean": row.mean, "error": row.error} for row in rows]
        description = {"group": item.name, "images": images} if grouped else images[0]
        self._add(f"{key}.json", json.dumps(description).encode())

    def data(self):
        self.tar.close()
        return self.stream.getvalue()

    def _add(self, name, data):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self.tar.addfile(member, io.BytesIO(data))


def _part(number, format):
    return f"part-{number:08d}{SUFFIXES[format]}"


def _to_json(items):
    return json.dumps([dataclasses.asdict(item) for item in items])


def _failure(error):
    """Return the error of a job that Ray has given up on, with the message of the exception in an actor."""
    exceptions = re.findall(r"^(?!ray\.)[\w.]+(?:Error|Exception): .*", str(error), re.MULTILINE)
    reason = exceptions[-1] if exceptions else str(error).partition("\n")[0]
    return RecNetError(
        f"The job failed: {reason.rstrip('.')}. Finished blocks are kept; run the same command to resume."
    )
