"""@cosmjs/tendermint-rpc: each file is a run of node's own test runner, against a cluster of four validators."""

import os
import pathlib
import subprocess

import clusters
import pytest

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with clusters.ledger(tmp_path_factory.mktemp("ledger")) as cluster:
        yield cluster


@pytest.mark.parametrize("file", ["chain.test.js", "events.test.js"])
def test_file(cluster, file):
    environment = {**os.environ, "HOSTS": cluster.hosts()}
    done = subprocess.run(
        ["node", "--no-warnings", "--test", str(HERE / file)], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
