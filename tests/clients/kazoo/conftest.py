"""A cluster for each test module, and kazoo's clients of it."""

import clusters
import pytest
from kazoo.client import KazooClient


class Cluster(clusters.Cluster):
    """A cluster that hands out clients."""

    def client(self, *ids, **options):
        client = KazooClient(hosts=self.hosts(*ids), timeout=options.pop("timeout", 10), **options)
        client.start(timeout=15)
        return client


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("verity")).start()
    yield running
    running.stop()


@pytest.fixture
def client(cluster):
    connected = cluster.client()
    yield connected
    connected.stop()
    connected.close()


@pytest.fixture
def root(client, request):
    path = f"/{request.node.name.replace('[', '-').replace(']', '')}"
    client.ensure_path(path)
    return path
