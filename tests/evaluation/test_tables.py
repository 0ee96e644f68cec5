import pytest

from keras_recnet.evaluation import figures, tables
from keras_recnet.evaluation.aggregation import METRICS
from keras_recnet.evaluation.datasets import DataSet
from keras_recnet.evaluation.run import evaluate
from keras_recnet.evaluation.tables import Row, best, columns

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
    assert tables.text(mae, MEASURED[0]) == "0.0400"
    assert tables.text(mae, PUBLISHED) == "0.001"
    assert tables.text(METRICS[-1], PUBLISHED) == "–"


@pytest.fixture
def evaluation(make_set, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "write", lambda result, folder: {})
    folder = make_set(["a", "b"], methods=("a_b", "50%"))
    maps = {method: folder / "maps" / method for method in ("a_b", "50%")}
    return evaluate([DataSet("R&D", folder / "masks", maps, published="ECSSD")], tmp_path / "out", jobs=1)


def test_latex_is_escaped_and_marks_published_rows(evaluation):
    latex = tables.latex(evaluation)
    assert r"\caption{R\&D. $^\dagger$~as published by the papers, not measured here.}" in latex
    assert r"    a\_b & " in latex
    assert r"    50\% & " in latex
    assert r"    RecNet$^\dagger$ & 0.035 & -- & -- & 0.942 & -- & 0.914 & --" in latex
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
    fine_tuned = "after fine-tuning on half of the data set"
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
