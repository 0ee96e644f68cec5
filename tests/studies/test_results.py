import csv
import io

import pytest

from keras_recnet.errors import ConfigError
from keras_recnet.studies import definition, results, writing


@pytest.fixture(scope="module")
def study():
    return definition.load("recnet-ablation")


@pytest.fixture(scope="module")
def table(study):
    scores = {
        ("foreground", 0): {"mae": 0.060, "weighted_f": 0.80, "adaptive_f": 0.85},
        ("foreground", 1): {"mae": 0.064, "weighted_f": 0.82, "adaptive_f": 0.85},
        ("two-branches", 0): {"mae": 0.055, "weighted_f": 0.83, "adaptive_f": 0.84},
        ("two-branches", 1): {"mae": 0.053, "weighted_f": 0.83, "adaptive_f": 0.84},
        ("background-ram", 0): {"mae": 0.056, "weighted_f": 0.84, "adaptive_f": 0.86},
    }
    return results.table(study, study.rows[:3], "MINE", scores, None)


def test_numbers_are_means_and_sample_deviations_over_the_seeds(table):
    mae = table.rows[0].entries[0]
    assert results.mean(mae.measured) == pytest.approx(0.062)
    assert results.deviation(mae.measured) == pytest.approx(0.004 / 2**0.5)  # of two numbers: |a − b| / √2
    assert results.deviation({0: 1.0}) is None
    assert results.mean({}) is None


def test_differences_are_between_the_same_seeds(table):
    two, ram = table.rows[1].entries[0], table.rows[2].entries[0]
    assert two.differences == pytest.approx({0: -0.005, 1: -0.011})
    assert ram.differences == pytest.approx({0: 0.001})  # seed 1 is not measured yet
    assert table.rows[0].entries[0].differences == {}


def test_published_numbers_are_in_the_row_of_the_same_network(table, study):
    assert table.published == "RecNet paper, Table 2, ECSSD"
    assert [row.entries[0].published for row in table.rows] == [0.040, 0.039, 0.038]
    assert [row.entries[0].published_difference for row in table.rows] == [None, -0.001, -0.001]
    assert [row.entries[0].agrees for row in table.rows] == [None, True, False]
    other = results.table(study, study.rows, "MINE", {}, "duts-te")
    assert other.published == "RecNet paper, Table 2, DUTS-TE"
    assert other.rows[-1].entries[0].published == 0.045
    rcau = definition.load("rcau-ablation")
    table = results.table(rcau, rcau.rows, "MSRC-14", {}, None)
    assert table.published == "RCAU paper, Table 2, MSRC, after fine-tuning on half of the dataset"


def test_the_markdown_table_has_ours_and_the_papers_numbers_in_the_same_row(table):
    text = writing.markdown(table)
    assert (
        "| two-branches | foreground | 0.0540 ± 0.0014 (−0.0080) | 0.039 (−0.001) | 0.830 ± 0.000 (+0.020) | "
        "0.904 (+0.011) | 0.840 ± 0.000 (−0.010) | 0.933 (+0.019) |\n"
    ) in text
    assert "| row | compared with | MAE | MAE, paper | weighted F |" in text
    assert "- MAE: 1 of 2 differences have the same sign as the paper's.\n" in text
    assert "- adaptive F: 1 of 2 differences have the same sign as the paper's.\n" in text
    assert "- Not measured with every seed: background-ram.\n" in text
    assert "over the seeds 0, 1" in text


def test_the_csv_file_has_a_line_per_row_and_metric(table):
    lines = list(csv.DictReader(io.StringIO(writing.as_csv([table]))))
    assert len(lines) == 9
    line = next(line for line in lines if (line["row"], line["metric"]) == ("two-branches", "mae"))
    assert (line["seeds"], line["published"], line["published_difference"]) == ("0 1", "0.039", "-0.001")
    assert float(line["mean"]) == pytest.approx(0.054)
    assert float(line["difference_deviation"]) == pytest.approx(0.006 / 2**0.5)
    assert lines[-1]["deviation"] == ""  # one seed


def test_the_latex_table_has_balanced_columns(table):
    text = writing.latex(table)
    columns = text.partition(r"\begin{tabular}{")[2].partition("}")[0]
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.strip()]
    assert len(rows) == 3
    assert {row.count("&") + 1 for row in rows} == {len(columns)} == {7}
    assert r"0.0540 $\pm$ 0.0014 ($-$0.0080) & 0.039 ($-$0.001)" in text
    assert "−" not in text


def test_a_study_without_published_numbers_has_no_columns_for_them(study):
    own = study.model_copy(update={"published": None})
    scores = {("foreground", 0): {"mae": 0.06}}
    table = results.table(own, own.rows[:2], "MINE", scores, None)
    assert "| foreground | – | 0.0600 | – | – |\n| two-branches | foreground | – | – | – |" in writing.markdown(table)
    assert "paper" not in writing.markdown(table).replace("RecNet paper, Table 2)", "")


def test_plots_are_written_per_data_set(table, tmp_path):
    writing.write([table], tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"table.md", "table.tex", "table.csv", "plot-MINE.png", "plot-MINE.svg"}
    svg = (tmp_path / "plot-MINE.svg").read_text(encoding="utf-8")
    assert all(text in svg for text in ("two-branches", "background-ram", "MAE (lower is better)", "ours", "paper"))


def test_an_unknown_dataset_of_the_published_table_is_an_error(study):
    assert results.published_name(study, None) == study.published.data_set
    assert results.published_name(study, study.published.data_set.upper()) == study.published.data_set
    with pytest.raises(ConfigError, match=r"no dataset 'ECSD'. Choose one of: .*ECSSD"):
        results.published_name(study, "ECSD")
