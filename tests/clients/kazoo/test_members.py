"""Nodes join and leave a running cluster: one process a node, mutual TLS between them."""

import json
import os
import signal
import subprocess
import time
import urllib.request

import pytest
from clusters import free_offset
from kazoo.client import KazooClient
from kazoo.exceptions import BadArgumentsError, NewConfigNoQuorumError, NoAuthError
from kazoo.security import make_digest_acl_credential

VALUE = b"x" * 1000
COUNT = 6000


def verity(*arguments, check=True):
    command = [os.environ["VERITY"], *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=90)


class Processes:
    """Three founders, and whoever joins."""

    def __init__(self, folder):
        self.folder, self.running = folder, {}
        self.offsets = {}
        verity("cert", "ca", "--dir", folder / "ca")
        for id in (1, 2, 3):
            self.offsets[id] = free_offset()
        for id in (1, 2, 3):
            self.found(id)

    def port(self, base, id):
        return base + self.offsets[id]

    def admin(self, id):
        return f"127.0.0.1:{self.port(7070, id)}"

    def data(self, id):
        return self.folder / f"data-{id}"

    def found(self, id):
        verity("cert", "node", "--id", id, "--ca", self.folder / "ca", "--dir", self.folder / f"tls-{id}")
        config = self.folder / f"verity-{id}.toml"
        peers = "".join(f'{n} = "127.0.0.1:{self.port(7071, n)}"\n' for n in (1, 2, 3))
        clients = "".join(f'{n} = "127.0.0.1:{self.port(2181, n)}"\n' for n in (1, 2, 3))
        digest = make_digest_acl_credential("super", "admin")
        config.write_text(
            f'cluster = "members"\nvoters = [1, 2, 3]\nsystems = ["zookeeper"]\n[node]\nid = {id}\ndata_dir = "{self.data(id)}"\n'
            f'peer = "127.0.0.1:{self.port(7071, id)}"\nadmin = "{self.admin(id)}"\n'
            f"[peers]\n{peers}[clients]\n{clients}[tls]\ndir = \"{self.folder}/tls-{id}\"\n"
            f"[zookeeper]\nport = {self.port(2181, id)}\ntls_port = 0\nadmin_port = 0\n"
            f'reconfig_enabled = true\nsuper_digest = "{digest}"\n'
        )
        self.start(id, "--config", config)

    def start(self, id, *arguments):
        log = open(self.folder / f"log-{id}", "ab")
        command = [os.environ["VERITY"], "--log", "info", "server", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout.readline(), (self.folder / f"log-{id}").read_text()
        self.running[id] = process

    def join(self, id, *flags, via=1):
        self.offsets[id] = free_offset()
        token = verity("node", "token", id, "--admin", self.admin(via), "--ca", self.folder / "ca").stdout.strip()
        self.start(
            id, "--join", token, "--data-dir", self.data(id), "--peer", f"127.0.0.1:{self.port(7071, id)}",
            "--admin", self.admin(id), "--zookeeper-port", self.port(2181, id), *flags,
        )  # fmt: skip

    def kill(self, id, how=signal.SIGKILL):
        process = self.running.pop(id)
        process.send_signal(how)
        process.wait(timeout=30)

    def status(self, id):
        with urllib.request.urlopen(f"http://{self.admin(id)}/api/status", timeout=5) as answer:
            return json.load(answer)["nodes"][0]["groups"][0]

    def node(self, *arguments, via=1, check=True):
        return verity("node", *arguments, "--admin", self.admin(via), "--data-dir", self.data(via), check=check)

    def members(self, via=1):
        report = json.loads(verity("--json", "node", "list", "--admin", self.admin(via)).stdout)
        return {member["id"]: "observer" if member["observer"] else "participant" for member in report["members"]}

    def client(self, *ids, **options):
        hosts = ",".join(f"127.0.0.1:{self.port(2181, id)}" for id in ids or self.running)
        client = KazooClient(hosts=hosts, **options)
        client.start(timeout=20)
        return client

    def stop(self):
        for id in list(self.running):
            self.kill(id, signal.SIGTERM)


def alike(one, other):
    return (one["applied"], one["digest"]) == (other["applied"], other["digest"])


def within(seconds, condition):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running = Processes(tmp_path_factory.mktemp("members"))
    yield running
    running.stop()


def test_nodes_join_are_replaced_and_leave(cluster):
    client = cluster.client(1, 2, 3)
    client.create("/filled")
    written = [client.create_async("/filled/n", VALUE, sequence=True) for _ in range(COUNT)]
    assert all(path.get(timeout=60) for path in written)

    # A fourth joins by its token, beyond what the others still have in their logs, and votes.
    within(30, lambda: all(cluster.status(id)["snapshot"] > 0 for id in (1, 2, 3)))
    cluster.join(4)
    within(40, lambda: cluster.members().get(4) == "participant")
    fourth = cluster.client(4)
    fourth.sync("/")
    assert len(fourth.get_children("/filled")) == COUNT
    within(10, lambda: alike(cluster.status(4), cluster.status(2)))

    # A fifth only learns.
    cluster.join(5, "--observer", via=2)
    within(40, lambda: cluster.members(4).get(5) == "observer")
    assert "Mode: observer" in cluster.client(5).command(b"srvr")

    # The first founder's machine is lost. Its successor has another id, and the others let it go.
    cluster.kill(1)
    cluster.join(6, via=2)
    within(40, lambda: cluster.members(2).get(6) == "participant")
    cluster.node("remove", 1, via=2)
    assert cluster.members(3) == {2: "participant", 3: "participant", 4: "participant", 5: "observer", 6: "participant"}

    # Both newcomers vote: with them alone and one founder there is a majority of four.
    cluster.kill(2)
    survivor = cluster.client(3, 4, 6)
    survivor.create("/after", b"still here")
    learner = cluster.client(5)
    learner.sync("/")
    assert learner.get("/after")[0] == b"still here"

    # A restarted node finds those that joined while it was away.
    cluster.kill(3)
    cluster.start(2, "--config", cluster.folder / "verity-2.toml")
    again = cluster.client(2, 4, 6)
    again.sync("/")
    assert len(again.get_children("/filled")) == COUNT
    cluster.start(3, "--config", cluster.folder / "verity-3.toml")
    within(30, lambda: cluster.status(3)["leader"] is not None)


def test_reconfig_by_a_client(cluster):
    client = cluster.client(2)
    with pytest.raises(NoAuthError):
        client.reconfig(joining=None, leaving="5", new_members=None)
    client.add_auth("digest", "super:admin")
    data, _ = client.reconfig(joining=None, leaving="5", new_members=None)
    assert b"server.5=" not in data and data == client.get("/zookeeper/config")[0]
    with pytest.raises(BadArgumentsError):
        client.reconfig(joining="server.7=nonsense", leaving=None, new_members=None)
    with pytest.raises(NewConfigNoQuorumError):
        client.reconfig(joining="server.7=127.0.0.1:1:1:participant;127.0.0.1:2", leaving=None, new_members=None)
    assert 7 not in cluster.members(2)
    # The fifth still runs. Its token let it in once, and does not let it in again.
    assert 5 in cluster.running and 5 not in cluster.members(2)
    within(10, lambda: cluster.status(5)["leader"] is None)


def test_mistakes_get_one_line(cluster):
    gone = cluster.node("remove", 9, via=2, check=False)
    assert gone.returncode != 0 and "node 9 is no member" in gone.stderr
    taken = verity("node", "token", 2, "--admin", cluster.admin(2), check=False)
    assert taken.returncode != 0 and "needs an id of its own" in taken.stderr
    bare = verity("node", "token", 8, "--admin", cluster.admin(2), check=False)
    assert bare.returncode != 0 and "--ca" in bare.stderr
    wrong = verity("server", "--join", "hello", check=False)
    assert wrong.returncode != 0 and "no join token" in wrong.stderr
    assert all(len(result.stderr.strip().splitlines()) == 1 for result in (gone, taken, bare, wrong))
