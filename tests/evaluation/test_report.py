"""The report: its content, and that a browser shows it without network access."""

import html
import json
import re
import subprocess

import numpy as np
import pytest

from keras_recnet.evaluation.datasets import DataSet
from keras_recnet.evaluation.run import evaluate

from .conftest import save

QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)

# Inspects the page after loading and writes the results to its title.
INSPECTION = """
<script>
addEventListener("load", () => {
  const images = [...document.images];
  const table = document.querySelector("table.sortable");
  const order = () => [...table.tBodies[0].rows].map(row => row.cells[0].firstChild.nextSibling
    ? row.cells[0].childNodes[row.classList.contains("published") ? 0 : 1].textContent.trim()
    : row.cells[0].textContent.trim());
  const heads = [...table.tHead.rows[0].cells];
  const click = label => heads.find(head => head.textContent === label).querySelector("button").click();
  const results = {
    images: images.length, broken: images.filter(one => !one.naturalWidth).length,
    figures: [...document.querySelectorAll("svg")].filter(one => one.getBoundingClientRect().height > 100).length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    loaded: performance.getEntriesByType("resource").filter(one => !one.name.startsWith("data:")).length,
    ground: getComputedStyle(document.body).backgroundColor,
  };
  click("MAE"); results.low = order();
  click("max F"); results.high = order();
  click("max F"); results.reversed = order();
  click("method"); results.byName = order();
  document.title = "RESULTS" + JSON.stringify(results) + "END";
});
</script>
"""


@pytest.fixture
def report(make_set, tmp_path):
    folder = make_set([f"{n:02}" for n in range(30)], methods=("ours", "a<b>&c"), images=True)
    save(np.zeros((36, 48), np.uint8), folder / "masks" / "07.png")
    maps = {method: folder / "maps" / method for method in ("ours", "a<b>&c")}
    evaluation = evaluate(
        [DataSet("my set", folder / "masks", maps, folder / "images", published="ECSSD")], tmp_path / "out", jobs=1
    )
    return tmp_path / "out" / "report.html", evaluation.results[0]


def test_the_report_is_a_single_small_file(report):
    path, _ = report
    text = path.read_text()
    assert path.stat().st_size < 5_000_000
    addresses = re.findall(r'\b(?:src|href|url)\s*[=(]\s*["\']?([^"\'\s)>]+)', text)
    assert addresses
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert "a<b>" not in text
    assert "a&lt;b&gt;&amp;c" in text


def test_the_report_shows_worst_and_best_maps_and_largest_differences(report):
    path, result = report
    text = path.read_text()
    records = result.records["ours"]
    ranked = sorted((r for r in records.values() if r.counts), key=lambda record: record.values["s_measure"])
    worst = text.partition("ours: worst")[2].partition("<h3>")[0]
    assert re.findall(r"<b>(\d\d)</b>", worst) == [record.name for record in ranked[:6]]
    best = text.partition("ours: best")[2].partition("<h3>")[0]
    assert re.findall(r"<b>(\d\d)</b>", best) == [record.name for record in ranked[:-7:-1]]
    assert re.findall(r"<b>(\d\d)</b>", text.partition("ours: brightest")[2].partition("<h3>")[0]) == ["07"]
    others = result.records["a<b>&c"]
    differences = {r.name: abs(r.values["s_measure"] - others[r.name].values["s_measure"]) for r in ranked}
    shown = re.findall(r"<b>(\d\d)</b>", text.partition("where they differ most")[2].partition("<h2>")[0])
    assert shown == sorted(differences, key=lambda name: (-differences[name], name))[:6]
    assert text.count(">published</span>") == 13


@pytest.mark.parametrize(
    ("width", "dark", "ground"), [(1280, False, "rgb(251, 251, 250)"), (500, True, "rgb(20, 23, 27)")]
)
def test_a_browser_shows_the_report_from_disk(browser, report, tmp_path, width, dark, ground):
    path, result = report
    page = tmp_path / "inspected.html"
    page.write_text(path.read_text().replace(' loading="lazy"', "").replace("</body>", f"{INSPECTION}</body>"))
    command = [browser, *QUIET.split(), f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    process = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=300, check=False
    )
    title = re.search(r"<title>RESULTS(.*?)END</title>", process.stdout)
    assert title, process.stderr[-2000:]
    results = json.loads(html.unescape(title[1]))
    # per method: 6 worst, 6 best, 1 distractor, 4 thumbnails each; then 6 comparisons of 6 thumbnails each
    assert results["images"] == 2 * 13 * 4 + 6 * 6
    assert results["broken"] == 0
    assert results["figures"] == 5
    assert results["overflow"] <= 0
    assert results["loaded"] == 0
    assert results["ground"] == ground
    measured = {method: means.values for method, means in result.images.items()}
    by_mae = {row.method: row.values.get("mae") for row in result.published} | {
        method: values["mae"] for method, values in measured.items()
    }
    assert results["low"] == sorted(by_mae, key=by_mae.get)
    by_f = sorted(measured, key=lambda method: -measured[method]["max_f"])
    assert results["high"][:2] == by_f  # the others have no max F and are last in both orders
    assert results["reversed"][:2] == by_f[::-1]
    assert results["byName"][0] == "a<b>&c"
