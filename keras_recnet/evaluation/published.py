"""Published results of the RecNet and RCAU papers, from `published_tables/`.

The authors computed them with their own scripts, so published rows are always marked as such. The RCAU paper measured
its own network after fine-tuning on half of each dataset; these rows are marked too.
"""

import csv
import dataclasses
from pathlib import Path

from keras_recnet.errors import ConfigError

_FOLDER = Path(__file__).parent / "published_tables"
_NAMES = ("method", "setting", "fusion", "dataset")
FINE_TUNED = "after fine-tuning on half of the dataset"

# File → (paper and table, dataset if the table has no such column, whether it compares methods, not ablations).
_TABLES = {
    "recnet_table1.csv": ("RecNet paper, Table 1", None, True),
    "recnet_table2_ablation.csv": ("RecNet paper, Table 2", None, False),
    "recnet_table3_fusion.csv": ("RecNet paper, Table 3", None, False),
    "rcau_table1.csv": ("RCAU paper, Table 1", None, True),
    "rcau_table2_ablation_msrc.csv": ("RCAU paper, Table 2", "MSRC", False),
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A row of a paper's table.

    Attributes:
        method: name of the method in the paper.
        source: paper and table.
        data_set: name of the dataset in the paper.
        fine_tuned: whether it was measured after fine-tuning on half of the dataset.
        values: metric → number, with three decimals as printed; numbers that the paper omits are omitted.
    """

    method: str
    source: str
    data_set: str
    fine_tuned: bool
    values: dict[str, float]


def published(data_set: str, *, ablations: bool = False) -> list[Published]:
    """Return the papers' rows for a dataset, in the papers' order.

    Args:
        data_set: name of the dataset in the papers; case is ignored.
        ablations: whether to include the ablations and fusion methods.

    Raises:
        ConfigError: if no table contains the dataset.
    """
    rows = _read()
    selected = [
        row
        for row, compares in rows
        if row.data_set.casefold() == data_set.casefold() and row.values and (compares or ablations)
    ]
    if not selected:
        known = dict.fromkeys(row.data_set for row, _ in rows)
        raise ConfigError(f"No published numbers for {data_set!r}. Choose one of: {', '.join(known)}.")
    return selected


def of_table(name: str) -> list[Published]:
    """Return the rows of one table, on all its datasets.

    Args:
        name: name of a file in `published_tables/`, without suffix.

    Raises:
        ConfigError: if there is no such table.
    """
    if f"{name}.csv" not in _TABLES:
        known = ", ".join(file.removesuffix(".csv") for file in _TABLES)
        raise ConfigError(f"There is no published table {name!r}. Choose one of: {known}.")
    return _read_table(f"{name}.csv")


def _read():
    return [(row, _TABLES[file][2]) for file in _TABLES for row in _read_table(file)]


def _read_table(file):
    source, data_set, compares = _TABLES[file]
    rows = []
    with open(_FOLDER / file, encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            method = line.get("method") or line.get("fusion") or line["setting"]
            values = {key: float(text) for key, text in line.items() if key not in _NAMES and text}
            fine_tuned = source.startswith("RCAU") and (method == "RCAU" or not compares)
            rows.append(Published(method, source, line.get("dataset") or data_set, fine_tuned, values))
    return rows
