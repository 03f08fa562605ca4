"""PBFT under ZooKeeper's clients: four processes, one of which lies on purpose."""

import base64
import json
import os
import signal
import subprocess
import time

import clusters
import pytest
from kazoo.client import KazooClient

NODES = range(1, 5)
LIAR = 1


def verity(*arguments, check=True):
    done = subprocess.run([os.environ["VERITY"], *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
    return done


class Servers:
    """A process for each node, ended by its own process id."""

    def __init__(self, folder, lie):
        self.folder, self.lie, self.processes = folder, lie, {}
        self.offset = clusters.free_offset()
        self.keys = {node: verity("node", "key", "--data-dir", self.data(node)).stdout.strip() for node in NODES}
        for node in NODES:
            self.write(node)

    def data(self, node):
        return self.folder / f"data-{node}"

    def port(self, base, node):
        return base + self.offset + 1000 * (node - 1)

    def admin(self, node):
        return f"127.0.0.1:{self.port(7070, node)}"

    def hosts(self, *nodes):
        return ",".join(f"127.0.0.1:{self.port(2181, node)}" for node in nodes)

    def write(self, node):
        lines = ['cluster = "liars"', "voters = [1, 2, 3, 4]", 'systems = ["zookeeper"]', 'agreement = "pbft"']
        lines += ["[node]", f"id = {node}", f'data_dir = "{self.data(node)}"']
        lines += [f'peer = "127.0.0.1:{self.port(7071, node)}"', f'admin = "{self.admin(node)}"']
        lines += ["[zookeeper]", f"port = {self.port(2181, node)}", "admin_port = 0", "[lab]", "enabled = true"]
        lines += ["[peers]", *(f'{other} = "127.0.0.1:{self.port(7071, other)}"' for other in NODES)]
        lines += ["[pbft.keys]", *(f'{other} = "{key}"' for other, key in self.keys.items())]
        (self.folder / f"{node}.toml").write_text("\n".join(lines) + "\n")

    def start(self, node):
        command = [os.environ["VERITY"], "--json", "server", "--config", str(self.folder / f"{node}.toml")]
        command += ["--byzantine", self.lie] if node == LIAR else []
        self.processes[node] = process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline(), f"{command} printed nothing; exit status {process.wait()}"

    def stop(self, node, how=signal.SIGKILL):
        process = self.processes.pop(node)
        process.send_signal(how)
        process.wait(timeout=30)

    def evidence(self, node):
        return json.loads(verity("--json", "evidence", "--admin", self.admin(node)).stdout)["proofs"]


@pytest.fixture
def servers(tmp_path, request):
    running = Servers(tmp_path, request.param)
    try:
        for node in NODES:
            running.start(node)
        yield running
    finally:
        for node in list(running.processes):
            running.stop(node, signal.SIGTERM)


def connect(servers, *nodes):
    client = KazooClient(hosts=servers.hosts(*nodes), timeout=10)
    client.start(timeout=30)
    return client


@pytest.mark.parametrize("servers", ["equivocate"], indirect=True)
def test_an_equivocator_is_named_and_clients_go_on(servers, tmp_path):
    clients = [connect(servers, node) for node in (2, 3, 4)]
    clients[0].create("/answers", b"")
    for turn in range(60):
        writer = clients[turn % 3]
        writer.set("/answers", b"%d" % turn)
        for reader in clients:
            reader.sync("/answers")
            assert reader.get("/answers")[0] == b"%d" % turn
    # Whoever leads first is the liar: what it signed twice is on the others' disks.
    proofs = servers.evidence(2) + servers.evidence(3) + servers.evidence(4)
    assert proofs and {proof["culprit"] for proof in proofs} == {LIAR}
    keys = tmp_path / "keys.json"
    keys.write_text(verity("node", "keys", "--admin", servers.admin(3)).stdout)
    said = tmp_path / "proofs.json"
    said.write_text(json.dumps({"proofs": proofs}))
    assert f"node {LIAR} signed two" in verity("verify", said, "--keys", keys).stdout
    # An answer that needs no trust in the node that gives it, and one that was changed on its way.
    place = ["--admin", servers.admin(2), "--data-dir", servers.data(2)]
    answer = tmp_path / "answer.json"
    answer.write_text(verity("--json", "read", "/answers", *place).stdout)
    assert 'get /answers: "59"' in verity("verify", answer, "--keys", keys).stdout
    changed = json.loads(answer.read_text())
    certificate = base64.b64decode(changed["certificate"]).replace(b"59", b"58")
    changed["certificate"] = base64.b64encode(certificate).decode()
    answer.write_text(json.dumps(changed))
    refused = verity("verify", answer, "--keys", keys, check=False)
    assert refused.returncode == 1 and "it proves nothing" in refused.stderr
    # The proof outlives the process that has it.
    servers.stop(2)
    servers.start(2)
    assert {proof["culprit"] for proof in servers.evidence(2)} <= {LIAR}
    for client in clients:
        client.stop()
        client.close()


@pytest.mark.parametrize("servers", ["silent"], indirect=True)
def test_a_silent_primary_is_replaced(servers):
    client = connect(servers, 3)
    begin = time.monotonic()
    client.create("/first", b"")
    assert time.monotonic() - begin < 5, "a view that nobody leads ends"
    for turn in range(200):
        client.set("/first", b"%d" % turn)
    assert client.get("/first")[0] == b"199"
    client.stop()
    client.close()


@pytest.mark.parametrize("servers", ["delay"], indirect=True)
def test_one_that_lies_and_one_that_restarts(servers):
    clients = [connect(servers, node) for node in (2, 3, 4)]
    clients[0].create("/count", b"0")
    for turn in range(1, 4):
        # With one that lies, one that is away leaves too few: it comes back, and what was asked goes on.
        servers.stop(4)
        pending = clients[0].set_async("/count", b"%d" % turn)
        time.sleep(0.2)
        servers.start(4)
        pending.get(timeout=30)
    clients[1].sync("/count")
    assert clients[1].get("/count")[0] == b"3"
    for client in clients:
        client.stop()
        client.close()
