"""The `tendermint-rpc` crate: the scenarios are in `src/main.rs`, which $TENDERMINT_RPC was built from."""

import os

import clusters
import programs
import pytest

PROGRAM = os.environ["TENDERMINT_RPC"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with clusters.ledger(tmp_path_factory.mktemp("ledger")) as cluster:
        yield cluster


@pytest.mark.parametrize("scenario", ["http", "websocket", "light", "proof", "events"])
def test_scenario(cluster, scenario):
    programs.run(PROGRAM, cluster, scenario)


def test_a_program_that_finds_fault_fails(cluster):
    with pytest.raises(AssertionError, match="no scenario nothing"):
        programs.run(PROGRAM, cluster, "nothing")
