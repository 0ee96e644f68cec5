import csv
import re

import numpy as np
import pytest

from keras_recnet.evaluation import figures, tables
from keras_recnet.evaluation.aggregation import METRICS
from keras_recnet.evaluation.datasets import DataSet
from keras_recnet.evaluation.run import evaluate
from keras_recnet.evaluation.tables import Row, best, columns

from .conftest import save

MEASURED = [
    Row("set", "a_b", "measured", "images", 3, 0, {"mae": 0.04, "max_f": 0.9001, "s_measure": 0.8}),
    Row("set", "c", "measured", "images", 3, 0, {"mae": 0.03, "max_f": 0.9004}),
]
PUBLISHED = Row("set", "theirs", "published", "a paper, Table 1", None, None, {"mae": 0.001})


def test_the_best_measured_numbers_are_found_after_rounding():
    assert best([*MEASURED, PUBLISHED]) == {(1, "mae"), (0, "max_f"), (1, "max_f"), (0, "s_measure")}
    assert best([MEASURED[0], PUBLISHED]) == set()


def test_columns_without_numbers_are_omitted():
    assert [metric.key for metric in columns([*MEASURED, PUBLISHED])] == ["mae", "max_f", "s_measure"]


def test_errors_have_four_decimals_and_published_numbers_three():
    (mae,) = (metric for metric in METRICS if metric.key == "mae")
    assert tables.text(mae, MEASURED[0].values) == "0.0400"
    assert tables.text(mae, PUBLISHED.values, published=True) == "0.001"
    assert tables.text(METRICS[-1], PUBLISHED.values) == "–"


def test_every_table_has_the_unstretched_mae_next_to_mae(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "write", lambda result, folder: {})
    folder = tmp_path / "set"
    save(np.array([[True, False]]), folder / "masks" / "cat" / "a.png")
    save(np.array([[153, 51]], np.uint8), folder / "maps" / "cat" / "a.png")  # 0.6 and 0.2, stretched to 1 and 0
    out = tmp_path / "out"
    evaluation = evaluate([DataSet("set", folder / "masks", {"ours": folder / "maps"}, grouped=True)], out, jobs=1)
    for over in ("images", "groups"):
        assert f"| ours | {over} | 1 | 0.0000 | 0.3000 | " in tables.markdown(evaluation)
    assert "| method | mean over | images | MAE | MAE (unstretched) | max F |" in (out / "table.md").read_text()
    assert "    method & MAE & MAE (unstretched) & " in (out / "table.tex").read_text()
    assert "    ours (groups) & 0.0000 & 0.3000 & " in (out / "table.tex").read_text()
    for name in ("metrics.csv", "per_image.csv"):
        lines = list(csv.DictReader((out / name).read_text().splitlines()))
        assert list(lines[0])[list(lines[0]).index("mae") + 1] == "mae_unstretched"
        assert {(float(line["mae"]), round(float(line["mae_unstretched"]), 9)) for line in lines} == {(0.0, 0.3)}
    report = (out / "report.html").read_text()
    assert len(re.findall(r">MAE</button></th>\s*<th [^>]*><button[^>]*>MAE \(unstretched\)</button>", report)) == 2
    numbers = re.findall(r">0\.0000</td>\s*<td[^>]*>0\.3000</td>", report)
    assert len(numbers) == 3  # over images, over groups, and the group
    assert '<span class="soft">MAE (unstretched)</span> 0.300' in report


@pytest.fixture
def evaluation(make_set, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "write", lambda result, folder: {})
    folder = make_set(["a", "b"], methods=("a_b", "50%"))
    maps = {method: folder / "maps" / method for method in ("a_b", "50%")}
    return evaluate([DataSet("R&D", folder / "masks", maps, published="ECSSD")], tmp_path / "out", jobs=1)


def test_latex_is_escaped_and_marks_published_rows(evaluation):
    latex = tables.latex(evaluation)
    assert r"\caption{R\&D. $^\dagger$~as published in the papers, not measured here.}" in latex
    assert r"    a\_b & " in latex
    assert r"    50\% & " in latex
    assert r"    RecNet$^\dagger$ & 0.035 & -- & -- & -- & 0.942 & -- & 0.914 & --" in latex
    assert r"\textbf{" in latex
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({line.count(" & ") for line in body}) == 1


def test_markdown_marks_published_rows(evaluation):
    lines = [line for line in tables.markdown(evaluation).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert sum("| published, RecNet paper, Table 1 |" in line for line in lines) == 13


def test_published_numbers_after_fine_tuning_are_marked(make_set, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "write", lambda result, folder: {})
    folder = make_set(["a"])
    data_set = DataSet("iCoseg", folder / "masks", {"ours": folder / "maps" / "ours"}, published="iCoseg")
    evaluation = evaluate([data_set], tmp_path / "out", jobs=1)
    fine_tuned = "after fine-tuning on half of the dataset"
    lines = [line for line in tables.markdown(evaluation).splitlines() if fine_tuned in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"| RCAU | published, RCAU paper, Table 1, {fine_tuned} |")
    latex = tables.latex(evaluation)
    assert rf"$^\ddagger$~as published, {fine_tuned}." in latex
    assert r"    RCAU$^\ddagger$ & " in latex
    assert r"    FASS$^\dagger$ & " in latex
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count(">fine-tuned</span>") == 1
    assert f"were measured {fine_tuned}" in report
