"""Debian's C client (libzookeeper-mt): the scenarios are in `client.c`, which $C_CLIENT was built from."""

import os

import clusters
import programs
import pytest

PROGRAM = os.environ["C_CLIENT"]


@pytest.mark.parametrize("scenario", ["operations", "acls", "multi", "watches", "ephemerals"])
def test_scenario(cluster, scenario):
    programs.run(PROGRAM, cluster, scenario)


def test_a_program_that_finds_fault_fails(cluster):
    with pytest.raises(AssertionError, match="no scenario nothing"):
        programs.run(PROGRAM, cluster, "nothing")


def test_a_session_outlives_leaders(tmp_path):
    cluster = clusters.Cluster(tmp_path / "data").start()
    programs.run(PROGRAM, cluster, "failover")
    cluster.stop()
