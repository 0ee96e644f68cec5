"""Definitions of studies: YAML files with one entry per row of a table."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from keras_recnet.errors import ConfigError, did_you_mean, validation_message
from keras_recnet.evaluation.aggregation import LABELS
from keras_recnet.evaluation.published import Published, of_table
from keras_recnet.training.config import yaml_source
from keras_recnet.training.config.schema import Count, Section

SHIPPED = Path(__file__).parent / "definitions"


def _metric(value):
    if value not in LABELS:
        raise ValueError(f"must be one of {', '.join(LABELS)}")
    return value


def _row_name(value):
    if not re.fullmatch(r"[\w+-]+", value):
        raise ValueError("must consist of letters, digits, +, - and _, because it is also the name of a folder")
    return value


class StudyRow(Section):
    """A row of a study's table: a network, and how its maps are computed.

    Attributes:
        name: short name, for `--rows`, tables and folders.
        published: the row's name in the published table.
        set: overrides of the study's configuration, `key=value`, as for `keras-recnet train --set`.
        network: name of another row, whose trained network is scored; null: the row trains its own.
        fusion: how the branches of a RecNet are fused; null: as in the configuration.
        subgroups: scores random subgroups of this many images instead of whole groups.
        noise: number of noise images that are added to each subgroup.
        compared_with: name of the row that this row is compared with.
    """

    name: Annotated[str, pydantic.AfterValidator(_row_name)]
    published: str | None = None
    set: list[str] = Field(default_factory=list)
    network: str | None = None
    fusion: Literal["subtract", "foreground", "inverse_background", "average"] | None = None
    subgroups: Count | None = None
    noise: Annotated[int, Field(ge=0)] = 0
    compared_with: str | None = None


class PublishedTable(Section):
    """The published table that a study repeats.

    Attributes:
        table: name of a file in `evaluation/published_tables`, without suffix.
        data_set: dataset of the published numbers, unless the scored dataset names another.
    """

    table: str
    data_set: str


class Study(Section):
    """A study: networks that differ in a few keys of one configuration, scored on the same datasets.

    Attributes:
        title: title of the table.
        config: name or path of the configuration of all rows.
        published: the published table; null if there is none.
        metrics: metrics in the table.
        draws: number of subgroups per group.
        rows: the rows.
    """

    title: str
    config: str
    published: PublishedTable | None = None
    metrics: Annotated[list[Annotated[str, pydantic.AfterValidator(_metric)]], Field(min_length=1)]
    draws: Count = 20
    rows: Annotated[list[StudyRow], Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _check(self):
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"the names of rows must be different. Received: {', '.join(names)}")
        for row in self.rows:
            for key in ("network", "compared_with"):
                other = getattr(row, key)
                if other is not None and (other not in names or other == row.name):
                    raise ValueError(f"rows: {row.name}: {key} must be another row. Received: {other!r}")
            if row.network is not None and (row.set or self.row(row.network).network is not None):
                raise ValueError(f"rows: {row.name}: `network` must be a row with its own network, without `set` here")
            if row.noise and row.subgroups is None:
                raise ValueError(f"rows: {row.name}: noise images are added to subgroups. Set `subgroups`")
        if self.published is not None:
            known = {row.method for row in self.published_rows()}
            for row in self.rows:
                if row.published is not None and row.published not in known:
                    raise ValueError(
                        f"rows: {row.name}: no row of {self.published.table} has this name."
                        f"{did_you_mean(row.published, known)} Received: published={row.published!r}"
                    )
        return self

    def row(self, name: str) -> StudyRow:
        """Return the row of this name."""
        return next(row for row in self.rows if row.name == name)

    def published_rows(self) -> list[Published]:
        """Return the rows of the published table, on all datasets."""
        return [] if self.published is None else of_table(self.published.table)


def shipped() -> list[str]:
    """Return the names of the studies that ship with the library."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load(name_or_path: str | os.PathLike) -> Study:
    """Read a study.

    Args:
        name_or_path: name of a shipped study, or path of a YAML file.

    Raises:
        ConfigError: if there is no such study, or with one line per error in the file.
    """
    name = os.fspath(name_or_path)
    path = SHIPPED / f"{name}.yaml" if name in shipped() else Path(name)
    if not path.is_file():
        raise ConfigError(
            f"There is no study or file {name!r}.{did_you_mean(name, shipped())} Shipped studies: "
            f"{', '.join(shipped())}. To use your own, pass the path of the YAML file."
        )
    settings = yaml_source.read(path)
    try:
        return Study.model_validate(settings.values)
    except pydantic.ValidationError as error:
        messages = []
        for detail in error.errors():
            key = ".".join(map(str, detail["loc"]))
            fields = StudyRow.model_fields if key.startswith("rows.") else Study.model_fields
            messages.append(f"{path}: {validation_message(detail, key, fields)}")
        raise ConfigError("\n".join(dict.fromkeys(messages))) from None
