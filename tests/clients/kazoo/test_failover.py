"""Clients live through the death of nodes, and sessions through the death of their node."""

import signal

import pytest
from conftest import Cluster
from kazoo.retry import KazooRetry

ROUNDS = 5


@pytest.fixture
def own_cluster(tmp_path):
    running = Cluster(tmp_path / "data").start()
    yield running
    running.stop()


def test_retries_through_leader_crashes(own_cluster):
    client = own_cluster.client(connection_retry=KazooRetry(max_tries=-1, max_delay=0.2))
    retry = KazooRetry(max_tries=-1, max_delay=0.05, ignore_expire=False)
    client.create("/count", b"0")
    session = client.client_id[0]
    for number in range(1, ROUNDS + 1):
        crashed = own_cluster.leader()
        own_cluster.fault("crash", node=crashed)
        retry(client.set, "/count", str(number).encode())
        assert retry(client.get, "/count")[0] == str(number).encode()
        own_cluster.fault("restart", node=crashed)
    assert client.client_id[0] == session, "the session lived through every crash"
    client.stop()


def test_everything_survives_kill_9(tmp_path):
    running = Cluster(tmp_path / "data").start()
    client = running.client()
    client.create("/kept", b"on stable storage")
    for number in range(200):
        client.create(f"/kept/{number}")
    running.stop(signal.SIGKILL)
    client.stop()
    again = Cluster(tmp_path / "data").start()
    client = again.client()
    assert client.get("/kept")[0] == b"on stable storage"
    assert len(client.get_children("/kept")) == 200
    client.stop()
    again.stop()


def test_a_session_moves_with_its_ephemerals(own_cluster):
    client = own_cluster.client(2, 3, timeout=20)
    client.create("/mine", ephemeral=True)
    session = client.client_id
    for node in (2, 3):
        own_cluster.fault("crash", node=node)
        assert KazooRetry(max_tries=-1, max_delay=0.05)(client.exists, "/mine")
        assert client.client_id == session
        own_cluster.fault("restart", node=node)
    client.stop()
