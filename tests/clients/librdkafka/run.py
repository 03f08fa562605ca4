#!/usr/bin/env python3
"""Runs librdkafka's own tests against clusters of ours, and holds them to expected.txt.

    run.py FOLDER [--all] [--run RUN]... [NUMBER]...

FOLDER is librdkafka's `tests`, where `test-runner` is built. Each number is a process of its own, several at once. What
is not as expected runs once more by itself, and that counts. Left out are the tests of the client alone: those that
librdkafka calls local, and those on its own mock of a cluster.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from clusters import Cluster  # noqa: E402

# Numbers of a run at once, and of the short runs beside it; most tests wait for time to pass.
JOBS, JOBS_BESIDE = int(os.environ.get("JOBS", "6")), 2
# A number that takes longer has failed: in its quick parts, and whole.
PATIENCE_S, PATIENCE_WHOLE_S = 450, 1800
# These begin first, since they take longest.
LONG = ["0103", "0033", "0041", "0081", "0076", "0052", "0084", "0091", "0030", "0093", "0094", "0109", "0107"]
CONSUMER = re.compile(r"create_consumer|RD_KAFKA_CONSUMER|KafkaConsumer|consume_msgs_easy")
# What librdkafka's authors set where their own tests run; the client's side of a cluster that asks who is there.
USUAL = {"test.timeout.multiplier": "2", "broker.address.family": "v4"}
PLAIN = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "PLAIN"}
PLAIN |= {"sasl.username": "alice", "sasl.password": "her password"}


@dataclasses.dataclass
class Run:
    """A pass through the tests: on which cluster, with which of them."""

    name: str
    scenario: str = "default"
    protocol: str = "classic"
    config: str = "verity.toml"
    client: dict = dataclasses.field(default_factory=dict)
    # Only these numbers, and of each the parts of this name; `*` for all parts, those too that are not quick.
    parts: dict = dataclasses.field(default_factory=dict)
    # It runs beside the others, for it is short.
    beside: bool = False


RUNS = [
    Run("classic"),
    Run("consumer", protocol="consumer"),
    Run("noautocreate", scenario="noautocreate", beside=True),
    Run("sasl", config="sasl.toml", client=PLAIN, parts={"0081": "authorized", "0135": "", "0142": "*"}, beside=True),
]


class Expected:
    """What expected.txt says: `STATE RUN TEST: reason` a line.

    What is `slow` is skipped unless tests run whole, and passes then; what is `quick` passes unless they do, and fails then.
    """

    def __init__(self, path, whole):
        self.lines = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                state, run, rest = line.split(" ", 2)
                test, _, _ = rest.partition(": ")
                either = {"slow": ("skips", "passes"), "quick": ("passes", "fails")}.get(state)
                self.lines[run, test] = either[whole] if either else state

    def state(self, run, test):
        return self.lines.get((run, test), "passes")


def tests_of(folder):
    """The tests that need a broker, by number; each with the scenarios that it is for."""
    text = (folder / "test.c").read_text(encoding="utf-8")
    table = text[text.index("struct test tests[] = {") :]
    table = table[: table.index("/* Manual tests */")]
    found = {}
    for entry in re.split(r"\b_TEST\(", table)[1:]:
        name = entry[: entry.index(",")].strip()
        if "TEST_F_LOCAL" not in entry and not name.endswith("_mock"):
            scenario = re.search(r'\.scenario = "([^"]*)"', entry)
            found.setdefault(name[:4], {})[name] = scenario.group(1) if scenario else "default"
    return found


def consumes(folder, number):
    """True if a test has consumers; the others do the same whatever the protocol of groups."""
    return any(CONSUMER.search(file.read_text(encoding="utf-8")) for file in folder.glob(f"{number}-*.c*"))


def environment(folder, place, cluster, run):
    """What the test runner reads."""
    lines = {"bootstrap.servers": cluster.hosts(), **USUAL, **run.client}
    (place / "test.conf").write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    found = {
        **os.environ,
        "TEST_REPORT": str(place / "report.json"),
        "TEST_CONSUMER_GROUP_PROTOCOL": run.protocol,
        "TEST_KAFKA_VERSION": "4.1.0",
        "RDKAFKA_TEST_CONF": str(place / "test.conf"),
        "KAFKA_PATH": str(HERE / "kafka"),
        "BROKERS": cluster.hosts(),
        "LD_LIBRARY_PATH": f"{folder.parent / 'src'}:{folder.parent / 'src-cpp'}",
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    found.pop("CI", None)
    return found


def run_number(folder, place, cluster, run, number, names, whole):
    """Runs the tests of one number. Returns what became of each, and how long it took."""
    place.mkdir(parents=True)
    env = {**environment(folder, place, cluster, run), "TESTS": number}
    part = run.parts.get(number)
    if part not in (None, "", "*"):
        env["SUBTESTS"] = part
    quick = [] if whole or part == "*" else ["-Q"]
    # Nodes that have no processor left do not lead; clients have to wait.
    command = ["nice", str(folder / "test-runner"), "-p1", "-L", *quick, "-s", run.scenario]
    began = time.monotonic()
    with open(place / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            process.wait(PATIENCE_WHOLE_S if whole else PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    took = time.monotonic() - began
    try:
        report = json.loads((place / "report.json").read_text(encoding="utf-8"))["tests"].values()
    except (OSError, ValueError):
        report = []
    words = {"PASSED": "passes", "SKIPPED": "skips"}
    states = {test["name"]: words.get(test["state"], "fails") for test in report}
    states = {test: states.get(test, "fails") for test in names}
    for test, state in states.items():
        print(f"{state:<7} {run.name:<12} {test:<46} {took:6.1f} s", flush=True)
    return states


def run_all(folder, work, run, tests, whole, expected):
    """One run. Returns what became of each test."""
    todo = {}
    for number, names in tests.items():
        names = [test for test, scenario in names.items() if run.scenario in scenario.split(",")]
        chosen = (not run.parts or number in run.parts) and (run.protocol == "classic" or consumes(folder, number))
        if names and chosen:
            todo[number] = names
    numbers = sorted(todo, key=lambda number: LONG.index(number) if number in LONG else len(LONG))
    place, config = work / run.name, str(HERE / run.config)
    cluster = Cluster(place / "data", "--nodes", "3", "--config", config, only="kafka").start()
    results = {}

    def attempt(number, attempts):
        return run_number(folder, place / attempts / number, cluster, run, number, todo[number], whole)

    try:
        if not run.client:
            creates = "false" if run.scenario == "noautocreate" else "true"
            cluster.set_defaults({"num.partitions": "4", "auto.create.topics.enable": creates})
        with concurrent.futures.ThreadPoolExecutor(JOBS_BESIDE if run.beside else JOBS) as pool:
            for states in pool.map(lambda number: attempt(number, "together"), numbers):
                results |= states
        # Some give a cluster 50 ms, read all topics that there are, or cannot bear a change of leaders.
        for number in numbers:
            if any(results[test] != expected.state(run.name, test) for test in todo[number]):
                print(f"{number} again, by itself: see {place / 'together' / number / 'log'}", flush=True)
                results |= attempt(number, "alone")
    finally:
        cluster.stop()
        # A gigabyte and more of large records, three times.
        shutil.rmtree(place / "data", ignore_errors=True)
    return {(run.name, test): state for test, state in results.items()}


def end_of(log):
    """The last lines of a log that say something."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return [line for line in lines if line.strip()][-8:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--all", action="store_true", help="all parts of each test, not only those that librdkafka calls quick")
    parser.add_argument("--run", action="append", choices=[run.name for run in RUNS])
    parser.add_argument("numbers", nargs="*")
    chosen = parser.parse_intermixed_args()
    folder, expected = chosen.folder.absolute(), Expected(HERE / "expected.txt", chosen.all)
    tests = {number: names for number, names in tests_of(folder).items() if number in (chosen.numbers or [number])}
    work = pathlib.Path(tempfile.mkdtemp(prefix="librdkafka-"))
    results = {}

    def lane(runs):
        for run in runs:
            if run.name in (chosen.run or [run.name]):
                results.update(run_all(folder, work, run, tests, chosen.all, expected))

    with concurrent.futures.ThreadPoolExecutor() as lanes:
        # What went wrong in a lane is raised here.
        list(lanes.map(lane, [[run for run in RUNS if run.beside == beside] for beside in (False, True)]))
    wrong = {key: state for key, state in results.items() if state != expected.state(*key)}
    for (run, test), state in sorted(wrong.items()):
        log = work / run / "alone" / test[:4] / "log"
        print(f"not as expected: {state} {run} {test}, see {log}, which ends:")
        print("".join(f"    {line}\n" for line in end_of(log)), end="")
    if not chosen.run and not chosen.numbers:
        missing = [" ".join(key) for key in expected.lines if key not in results]
        wrong |= dict.fromkeys(missing, "missing")
        print("".join(f"expected.txt: there is no {key}\n" for key in missing), end="")
    for state in ("passes", "fails", "skips"):
        print(f"{state}: {sum(found == state for found in results.values())} of {len(results)}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
