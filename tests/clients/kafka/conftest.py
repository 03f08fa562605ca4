"""One cluster for all tests that break nothing; each test has topics and groups of its own."""

import itertools

import pytest
from clusters import Cluster

COUNT = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("kafka"), only="kafka") as cluster:
        yield cluster


@pytest.fixture()
def own_cluster(tmp_path):
    """A cluster to be broken."""
    with Cluster(tmp_path / "data", only="kafka") as cluster:
        yield cluster


@pytest.fixture()
def servers(cluster):
    return cluster.hosts()


@pytest.fixture()
def name():
    """A name that no other test uses."""
    return f"test-{next(COUNT)}"
