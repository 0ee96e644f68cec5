"""What all tests share."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--none-skipped", action="store_true", help="count a skipped test as a failed one")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    return _strict(item, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _strict(collector, (yield))


def _strict(node, report):
    if report.skipped and not hasattr(report, "wasxfail") and node.config.getoption("--none-skipped"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (--none-skipped counts it as failed)"
    return report
