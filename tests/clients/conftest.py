"""A cluster for each test module."""

import clusters
import pytest


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running = clusters.Cluster(tmp_path_factory.mktemp("verity")).start()
    yield running
    running.stop()
