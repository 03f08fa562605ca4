"""A pytest plugin that holds a run to expected.txt.

A listed failure becomes a strict xfail: it is no failure, and its passing is one. A skip that is not listed, and a line
whose test does not exist or was not skipped, fail the run as well.
"""

import pathlib

import pytest

LIST = pathlib.Path(__file__).with_name("expected.txt")


def pytest_configure(config):
    config.pluginmanager.register(Expected(), "verity-expected")


class Expected:
    def __init__(self):
        self.fails, self.skips = {}, {}
        for line in LIST.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                what, _, rest = line.partition(" ")
                test, _, reason = rest.partition(": ")
                {"fails": self.fails, "skips": self.skips}[what][test] = reason
        self.skipped, self.complaints = set(), []

    def pytest_collection_modifyitems(self, items):
        for item in items:
            if item.nodeid in self.fails:
                item.add_marker(pytest.mark.xfail(strict=True, reason=self.fails[item.nodeid]))
        known = {item.nodeid for item in items}
        self.complaints += [f"there is no {test}" for test in [*self.fails, *self.skips] if test not in known]

    def pytest_runtest_logreport(self, report):
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.add(report.nodeid)

    def pytest_sessionfinish(self, session):
        self.complaints += [f"{test} was skipped" for test in sorted(self.skipped - self.skips.keys())]
        self.complaints += [f"{test} was not skipped" for test in sorted(self.skips.keys() - self.skipped)]
        if self.complaints and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for complaint in self.complaints:
            terminalreporter.write_line(f"expected.txt: {complaint}")
