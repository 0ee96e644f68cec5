"""The number of cores that a process may use."""

import os

import pytest

from keras_recnet import parallel


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000\n", 8),  # no limit
        ("200000 100000\n", 2),
        ("250000 50000\n", 5),
        ("50000 100000\n", 1),  # half a core
        ("1600000 100000\n", 8),  # more than the machine has
        (None, 8),  # no cgroup v2
    ],
)
def test_cores_respects_the_cpu_limit_of_a_container(monkeypatch, tmp_path, limit, expected):
    if not hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    file = tmp_path / "cpu.max"
    if limit is not None:
        file.write_text(limit)
    monkeypatch.setattr(parallel, "CPU_LIMIT", file)
    assert parallel.cores() == expected
