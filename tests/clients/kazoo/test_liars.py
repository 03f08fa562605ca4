"""PBFT under ZooKeeper's clients: four processes, one of which lies on purpose."""

import base64
import json
import signal
import time

import pytest
from kazoo.client import KazooClient
from servers import LIAR, Servers, verity


class Ensemble(Servers):
    lines = ['cluster = "liars"', 'systems = ["zookeeper"]', 'agreement = "pbft"']
    port_of_clients = 2181

    def system(self, node):
        return ["[zookeeper]", f"port = {self.port(2181, node)}", "admin_port = 0"]


@pytest.fixture
def servers(tmp_path, request):
    running = Ensemble(tmp_path, request.param)
    try:
        yield running.start()
    finally:
        running.stop()


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
    servers.stop(2, how=signal.SIGKILL)
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
        servers.stop(4, how=signal.SIGKILL)
        pending = clients[0].set_async("/count", b"%d" % turn)
        time.sleep(0.2)
        servers.start(4)
        pending.get(timeout=30)
    clients[1].sync("/count")
    assert clients[1].get("/count")[0] == b"3"
    for client in clients:
        client.stop()
        client.close()
