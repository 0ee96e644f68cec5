"""The tables of the RecNet and the RCAU paper, which lie in `published_tables/`: rows to stand beside measured ones.

They were computed by their authors, on whole sets, with their own scripts: a row of theirs is never unmarked.
"""

import csv
import dataclasses
from pathlib import Path

from keras_recnet.errors import ConfigError

_FOLDER = Path(__file__).parent / "published_tables"
_NAMES = ("method", "setting", "fusion", "dataset")

# File → (what it is, its data set where the table has no such column, whether it compares methods).
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
        method: as the paper calls it.
        source: paper and table.
        data_set: as the paper calls it.
        values: metric → number, with the paper's own three decimals; what is not printed is left out.
    """

    method: str
    source: str
    data_set: str
    values: dict[str, float]


def published(data_set: str, *, ablations: bool = False) -> list[Published]:
    """The papers' rows for a data set, in their order.

    Args:
        data_set: as the papers call it; capitals do not matter.
        ablations: the rows of ablations and fusions too.

    Raises:
        ConfigError: if no table has this data set.
    """
    rows = _read()
    found = [
        row
        for row, compares in rows
        if row.data_set.casefold() == data_set.casefold() and row.values and (compares or ablations)
    ]
    if not found:
        known = dict.fromkeys(row.data_set for row, _ in rows)
        raise ConfigError(f"No published numbers for {data_set!r}. The papers have: {', '.join(known)}.")
    return found


def _read():
    rows = []
    for file, (source, data_set, compares) in _TABLES.items():
        with open(_FOLDER / file, encoding="utf-8", newline="") as lines:
            for line in csv.DictReader(lines):
                method = line.get("method") or line.get("fusion") or line["setting"]
                values = {key: float(text) for key, text in line.items() if key not in _NAMES and text}
                rows.append((Published(method, source, line.get("dataset") or data_set, values), compares))
    return rows
