"""Each kind of `verity fault`, by its command, and what a client or an operator sees of it."""

import json
import os
import socket
import subprocess
import time

import pytest
from conftest import Cluster
from kazoo.client import KazooClient
from kazoo.protocol.states import KeeperState
from kazoo.retry import KazooRetry

WAIT = 20


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("verity"), "--tick-time", "400").start()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def mend(broken):
    yield
    verity(broken, "fault", "heal")
    eventually(lambda: all(broken.is_ready(node) for node in broken.nodes))
    assert all(node["faults"] == [] for node in status(broken))


def verity(cluster, *arguments):
    command = [os.environ["VERITY"], *map(str, arguments), "--json", "--admin", cluster.nodes[0]["admin"]]
    if arguments[0] == "fault":
        command += ["--data-dir", cluster.data_dir]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return json.loads(done.stdout)


def status(cluster):
    return verity(cluster, "status")["nodes"]


def eventually(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def answers(node):
    host, port = node["endpoints"]["zookeeper"].split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"ruok")
            return connection.recv(4) == b"imok"
    except ConnectionError:
        return False


def persistent(cluster, *ids, **options):
    return cluster.client(*ids, connection_retry=KazooRetry(max_tries=-1, max_delay=0.1), **options)


def leader_and_others(cluster):
    leader = cluster.leader()
    return leader, [node for node in (1, 2, 3) if node != leader]


def test_partition(broken):
    leader, (cut, _) = leader_and_others(broken)
    assert f"node {cut} is cut off" in verity(broken, "fault", "partition", cut)["done"]
    assert len(status(broken)[cut - 1]["faults"]) == 6, "three peers, both ways"
    writer = broken.client(leader)
    writer.ensure_path("/partition")
    alone = KazooClient(hosts=broken.hosts(cut), read_only=True)
    alone.start_async()
    eventually(lambda: alone.client_state == KeeperState.CONNECTED_RO)
    verity(broken, "fault", "heal")
    eventually(lambda: alone.client_state == KeeperState.CONNECTED)
    eventually(lambda: KazooRetry(max_tries=-1, max_delay=0.1)(alone.exists, "/partition"))
    for client in (writer, alone):
        client.stop()


def test_partition_of_two_and_one_way(broken):
    leader, (one, other) = leader_and_others(broken)
    verity(broken, "fault", "partition", one, other, "--one-way")
    assert status(broken)[one - 1]["faults"] == [f"sends nothing to node {other}"]
    client = broken.client(leader)
    client.ensure_path("/still")
    client.stop()


def test_partition_of_a_leader_elects_another(broken):
    old = broken.leader()
    verity(broken, "fault", "partition", old)
    leads = lambda node: any(group["role"] == "leader" for group in node["groups"])
    eventually(lambda: any(leads(node) and node["id"] != old for node in status(broken)))


def test_crash_and_restart(broken):
    _, (node, _) = leader_and_others(broken)
    before = status(broken)[node - 1]["incarnation"]
    client = persistent(broken, node, (node % 3) + 1)
    client.ensure_path("/crash")
    verity(broken, "fault", "crash", node)
    assert not status(broken)[node - 1]["running"] and not answers(broken.nodes[node - 1])
    assert KazooRetry(max_tries=-1, max_delay=0.1)(client.exists, "/crash"), "the client moves on"
    verity(broken, "fault", "restart", node)
    assert status(broken)[node - 1]["incarnation"] == before + 1
    eventually(lambda: answers(broken.nodes[node - 1]))
    client.stop()


def test_heal_starts_what_crashed(broken):
    verity(broken, "fault", "crash", 4)
    assert not answers(broken.nodes[3])
    verity(broken, "fault", "heal")
    eventually(lambda: answers(broken.nodes[3]))


def test_pause(broken):
    begin = time.monotonic()
    verity(broken, "fault", "pause", 4, "--for", 1500)
    assert answers(broken.nodes[3])
    assert time.monotonic() - begin >= 1.4, "while it pauses, nobody is answered"


def test_clock(broken):
    client = broken.client()
    for node in (1, 2, 3, 4):
        verity(broken, "fault", "clock", node, "--skew", 3_600_000)
    client.create("/clock", b"")
    assert client.exists("/clock").ctime / 1000 > time.time() + 3000
    for node in (1, 2, 3, 4):
        verity(broken, "fault", "clock", node, "--skew", -3_600_000)
    client.create("/clock/back", b"")
    assert client.exists("/clock/back").czxid > client.exists("/clock").czxid, "order does not come from clocks"
    client.stop()


def test_disk(broken):
    client = persistent(broken)
    client.ensure_path("/disk")
    for node in (1, 2, 3):
        verity(broken, "fault", "disk", node, "--delay", 400)
    assert "each sync takes 400 ms longer" in status(broken)[0]["faults"]
    begin = time.monotonic()
    # A leader that is elected now needs slow disks as well; clients may have to connect anew.
    KazooRetry(max_tries=-1, max_delay=0.1)(client.set, "/disk", b"slow")
    assert time.monotonic() - begin >= 0.4, "what is acknowledged was synced"
    client.stop()


@pytest.mark.parametrize(
    "arguments",
    [("crash", 9), ("partition", 1, 1), ("partition", 1, 9), ("restart", 1), ("pause", 1, "--for", 10_000_000)],
)
def test_what_cannot_be_done_is_said_in_a_line(broken, arguments):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        verity(broken, "fault", *arguments)
    assert refused.value.stderr.startswith("verity: ") and refused.value.stderr.count("\n") == 1


def test_nothing_breaks_without_the_token(broken, tmp_path):
    command = [os.environ["VERITY"], "fault", "crash", "1", "--admin", broken.nodes[0]["admin"], "--token", "guess"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "admin.token" in done.stderr
    assert status(broken)[0]["running"]
