"""An application that others wrote for CometBFT 0.38: tower-abci's example, a key-value store that keeps nothing.

Each node has a process of it, by TCP or by a unix socket. The application is `$APPLICATION`.
"""

import base64
import json
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.request

import clusters
import pytest

NODES = 3
# Below those of the nodes, whose offset is added to them as well.
APP_PORT = 8658


class Applications:
    """Three processes of the application."""

    def __init__(self, offset):
        self.ports = [APP_PORT + offset + at for at in range(NODES)]
        self.processes = {}

    def start(self, at):
        command = [os.environ["APPLICATION"], "--port", str(self.ports[at])]
        self.processes[at] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self, at):
        process = self.processes.pop(at)
        process.kill()
        process.wait()

    def __enter__(self):
        for at in range(NODES):
            self.start(at)
        return self

    def __exit__(self, *_):
        for at in list(self.processes):
            self.stop(at)


class Rig:
    def __init__(self, folder):
        offset = clusters.free_offset()
        self.apps = Applications(offset)
        address = f"tcp://127.0.0.1:{self.apps.ports[0]}"
        self.cluster = clusters.ledger(folder, "--nodes", str(NODES), "--ledger-app", address, offset=offset)

    def __enter__(self):
        self.apps.__enter__()
        self.cluster.__enter__()
        return self

    def __exit__(self, *_):
        self.cluster.__exit__()
        self.apps.__exit__()

    def get(self, path, node=0):
        host = self.cluster.hosts().split(",")[node]
        try:
            with urllib.request.urlopen(f"http://{host}/{path}", timeout=20) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["error"]) from error

    def commit(self, text, node=0):
        done = self.get(f"broadcast_tx_commit?tx=%22{text}%22", node)
        assert (done["check_tx"]["code"], done["tx_result"]["code"]) == (0, 0), done
        return int(done["height"])

    def value(self, key, node=0):
        answer = self.get(f"abci_query?data=%22{key}%22", node)["response"]
        assert answer["log"] in ("exists", "does not exist")
        return base64.b64decode(answer["value"] or "").decode()

    def height(self, node):
        return int(self.get("status", node)["sync_info"]["latest_block_height"])

    def wait(self, height):
        until(lambda: all(self.height(node) >= height for node in range(NODES)), f"all have block {height}")

    def hashes(self, height):
        """What a block came to, and what it is called, at each node."""
        self.wait(height)
        seen = set()
        for node in range(NODES):
            block = self.get(f"block?height={height}", node)
            results = self.get(f"block_results?height={height}", node)
            seen.add((block["block_id"]["hash"], block["block"]["header"]["app_hash"], results["app_hash"]))
        return seen


def until(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)


@pytest.fixture()
def rig(tmp_path):
    with Rig(tmp_path) as rig:
        yield rig


def test_transactions_and_restarts(rig):
    info = rig.get("abci_info")["response"]
    assert info["data"] == "tower-abci-kvstore-example"
    for at in range(5):
        height = rig.commit(f"key-{at}=value-{at}", at % NODES)
    assert [rig.value("key-3", node) for node in range(NODES)] == ["value-3"] * NODES
    (_, _, app_hash), = rig.hashes(height)
    assert base64.b64decode(app_hash) == (5).to_bytes(8, "big"), "it counts its keys"
    found = rig.get("tx_search?query=%22app.key='key-2'%22")
    assert found["total_count"] == "1"

    # An application that is gone halts the chain where it is, and nobody is told otherwise; a new one learns all blocks.
    rig.apps.stop(1)
    with pytest.raises(AssertionError, match="the application at tcp://127.0.0.1"):
        rig.get("abci_info", 1)
    rig.apps.start(1)
    until(lambda: answers(rig, 1), "the new application answers")
    height = rig.commit("behind=1", 1)
    assert rig.value("key-0", 1) == "value-0"
    assert len(rig.hashes(height)) == 1

    # The nodes start again, with applications that are ahead of what the nodes know at first.
    before = rig.hashes(height)
    rig.cluster.stop()
    rig.cluster.start()
    assert rig.hashes(height) == before
    height = rig.commit("node=again", 2)

    # So does everything.
    rig.cluster.stop()
    for at in range(NODES):
        rig.apps.stop(at)
        rig.apps.start(at)
    rig.cluster.start()
    assert rig.hashes(height) == rig.hashes(height)
    height = rig.commit("all=again")
    assert [rig.value("key-4", node) for node in range(NODES)] == ["value-4"] * NODES
    (_, _, app_hash), = rig.hashes(height)
    assert base64.b64decode(app_hash) == (8).to_bytes(8, "big")


def answers(rig, node):
    try:
        return rig.get("abci_info", node)["response"]["data"]
    except AssertionError:
        return None


def test_killed_nodes(rig):
    rig.commit("a=1")
    for kill in (1, 2, 3):
        subprocess.run(
            [os.environ["VERITY"], "fault", "--admin", rig.cluster.nodes[0]["admin"], "--data-dir", rig.cluster.data_dir]
            + ["crash", str(kill)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        subprocess.run(
            [os.environ["VERITY"], "fault", "--admin", rig.cluster.nodes[0]["admin"], "--data-dir", rig.cluster.data_dir]
            + ["restart", str(kill)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        height = until_commit(rig, f"k{kill}=1")
        assert len(rig.hashes(height)) == 1


def until_commit(rig, text):
    """A node that has just been started may know no leader yet."""
    deadline = time.monotonic() + 30
    at = 0
    while True:
        try:
            return rig.commit(f"{text}.{at}")
        except AssertionError:
            assert time.monotonic() < deadline
            at += 1


def test_an_application_of_another_state_stops_its_node(rig):
    rig.commit("a=1")
    rig.wait(2)
    # Behind the node's back, its application runs a block of its own.
    rig.apps.stop(0)
    rig.apps.start(0)
    until(lambda: answers(rig, 0), "the new application answers")
    meddle = pathlib.Path(__file__).parent / "meddle.py"
    subprocess.run(["python3", str(meddle), str(rig.apps.ports[0]), "50"], check=True)
    try:
        rig.commit("b=2", 1)
    except AssertionError:
        pass  # Two of three are not enough.
    until(lambda: not rig.cluster.is_ready(rig.cluster.nodes[0]), "the node stops")


def test_a_unix_socket(tmp_path):
    path = tmp_path / "app.sock"
    app = subprocess.Popen([os.environ["APPLICATION"], "--uds", str(path)], stdout=subprocess.DEVNULL)
    try:
        with clusters.ledger(tmp_path, "--nodes", "1", "--ledger-app", f"unix://{path}") as cluster:
            with urllib.request.urlopen(f"http://{cluster.hosts()}/broadcast_tx_commit?tx=%22a=1%22", timeout=20) as answer:
                assert json.load(answer)["result"]["tx_result"]["code"] == 0
    finally:
        app.kill()
        app.wait()
