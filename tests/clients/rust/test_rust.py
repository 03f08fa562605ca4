"""The `zookeeper-client` crate: the scenarios are in `src/main.rs`, which $RUST_CLIENT was built from."""

import os

import clusters
import programs
import pytest

PROGRAM = os.environ["RUST_CLIENT"]


@pytest.mark.parametrize("scenario", ["operations", "multi", "acls", "watches", "locks", "ephemerals"])
def test_scenario(cluster, scenario):
    programs.run(PROGRAM, cluster, scenario)


def test_a_program_that_finds_fault_fails(cluster):
    with pytest.raises(AssertionError, match="no scenario nothing"):
        programs.run(PROGRAM, cluster, "nothing")


@pytest.mark.parametrize("scenario", ["failover", "reconnect"])
def test_scenario_with_crashes(tmp_path, scenario):
    cluster = clusters.Cluster(tmp_path / "data").start()
    programs.run(PROGRAM, cluster, scenario)
    cluster.stop()
