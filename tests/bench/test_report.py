import json

import pytest

from keras_recnet.bench.benchmark import Result, Settings
from keras_recnet.bench.candidates import Candidate
from keras_recnet.bench.report import cells, plain, report

MEGABYTE = 1_000_000


def facts(*shape):
    return {"input_shape": [1, *shape], "device": "CPU, 2 threads", "threads": 2, "versions": {"runtime": "1.2"}}


@pytest.fixture
def results():
    """A network that takes 10 ms, a peer that takes 80 ms, and a matrix product at 100 GFLOP/s."""
    own = Result(
        Candidate("ours", "litert", "float16", "ours.tflite", 7 * MEGABYTE),
        facts(4, 4, 3),
        {"map": [0.008, 0.009, 0.010, 0.011, 0.030]},
        {"map": [0.015, 0.016, 0.017, 0.018, 0.030]},
        [99.0, 100.0, 110.0],
        {"baseline": 30 * MEGABYTE, "latency": 90 * MEGABYTE, "throughput": 120 * MEGABYTE},
        {"map": 900_000_000},
    )
    peer = Result(
        Candidate("peer", "onnx", "float32", "peer.onnx", MEGABYTE, is_peer=True),
        facts(3, 8, 8),
        {"map": [0.07, 0.08, 0.09]},
        {"map": [0.10, 0.14, 0.15]},
        [12.0],
        {"baseline": 30 * MEGABYTE, "latency": 500 * MEGABYTE, "throughput": 600 * MEGABYTE},
    )
    product = Result(
        Candidate("4×4 product", "product", "float32", "4"),
        facts(),
        {"map": [1.0]},
        {"map": [2.0]},
        operations={"map": 100_000_000_000},
    )
    return [own, peer, product]


def test_numbers_equal_the_values_computed_by_hand(results):
    own, peer, product = report(results, Settings(2))["candidates"]
    part = own["parts"]["map"]
    assert (part["runs"], part["p50"]) == (5, pytest.approx(10))
    assert part["p90"] == pytest.approx(11 + 0.6 * 19)  # 60 % between the fourth and the fifth value
    assert part["processor"] == pytest.approx(17)
    assert part["times"] == pytest.approx([8, 9, 10, 11, 30])
    assert part["times_as_fast_as"] == {"peer": pytest.approx(8)}
    assert part["gflops"] == pytest.approx(90)
    assert part["of_product"] == pytest.approx(0.9)
    assert own["throughput"]["images_per_second"] == 100
    assert "times_as_fast_as" not in peer["parts"]["map"]
    assert peer["parts"]["map"]["gflops"] is None
    assert product["parts"]["map"]["gflops"] == pytest.approx(100)
    assert product["throughput"] is None
    assert product["source"] is None


def test_json_has_the_machine_and_the_versions(results):
    whole = json.loads(json.dumps(report(results, Settings(2, burst=4), interrupted=True)))
    assert set(whole) == {
        *("keras_recnet", "date", "machine", "python", "threads", "burst", "interrupted", "candidates"),
    }
    assert (whole["threads"], whole["burst"], whole["interrupted"]) == (2, 4, True)
    assert set(whole["machine"]) == {"processor", "cores", "system"}
    assert whole["machine"]["processor"]
    own = whole["candidates"][0]
    assert (own["network"], own["engine"], own["precision"]) == ("ours", "litert", "float16")
    assert own["versions"] == {"runtime": "1.2"}
    assert own["bytes"] == 7 * MEGABYTE
    assert own["memory"]["latency"] == 90 * MEGABYTE


def test_the_table_has_a_row_per_part_and_a_column_per_peer(results):
    results[0].seconds = {"encode": [0.008], "group": [0.010]}
    results[0].processor = {"encode": [0.015], "group": [0.018]}
    results[0].operations = {"encode": 80_000_000}
    header, rows = cells(report(results, Settings(2)))
    assert header[-3:] == ["× peer", "GFLOP/s", "of product"]
    assert header[:11] == [
        *("network", "engine", "precision", "input", "part", "p50", "p90", "CPU", "images/s", "memory", "size"),
    ]
    assert rows[0] == [
        *("ours", "litert", "float16", "1×4×4×3", "encode", "8.00", "8.00", "15.0", "", "90.0 MB", "7.00 MB"),
        *("", "10.0", "10%"),
    ]
    assert rows[1] == ["", "", "", "", "group", "10.0", "10.0", "18.0", "100", "", "", "8.00", "–", "–"]
    lines = plain(header, rows).splitlines()
    assert len(lines) == 1 + 4
    assert lines[0].index("p50") + 3 == lines[1].index("8.00") + 4  # numbers are right-aligned


def test_a_failed_candidate_has_no_numbers(results):
    results[1].seconds, results[1].facts = {}, {}
    header, rows = cells(report(results, Settings(2)))
    assert rows[1] == ["peer", "onnx", "float32", "–", "–", "–", "–", "–", "12.0", "500 MB", "1.00 MB", "–", "–", "–"]
    assert dict(zip(header, rows[0], strict=True))["× peer"] == "–"
