"""A ledger of one node a process, `verity server`: the nodes' files list the validators' keys, which the nodes say themselves."""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

import clusters
import pytest

PEER, ADMIN = 8071, 8170


class Servers:
    def __init__(self, folder, count=3):
        self.folder, self.count = folder, count
        self.offset = clusters.free_offset()
        self.processes = {}

    def port(self, base, node):
        return base + self.offset + 1000 * (node - 1)

    def command(self, node, ledger):
        nodes = range(1, self.count + 1)
        peers = "".join(f'{other} = "127.0.0.1:{self.port(PEER, other)}"\n' for other in nodes)
        config = self.folder / f"{node}.toml"
        config.write_text(
            f'cluster = "shop"\nvoters = {list(nodes)}\nsystems = ["ledger"]\n'
            f'[node]\nid = {node}\ndata_dir = "{self.folder / str(node)}"\n'
            f'peer = "127.0.0.1:{self.port(PEER, node)}"\nadmin = "127.0.0.1:{self.port(ADMIN, node)}"\n'
            f"[peers]\n{peers}[ledger]\nport = {self.port(clusters.LEDGER_PORT, node)}\n{ledger}",
            encoding="utf-8",
        )
        return [os.environ["VERITY"], "server", "--config", str(config)]

    def refusal(self, node, ledger):
        done = subprocess.run(self.command(node, ledger), capture_output=True, text=True, timeout=30)
        assert done.returncode != 0
        return done.stderr

    def start(self, ledger):
        for node in range(1, self.count + 1):
            self.processes[node] = subprocess.Popen(self.command(node, ledger), stdout=subprocess.DEVNULL)

    def stop(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(timeout=30)

    def get(self, node, path):
        url = f"http://127.0.0.1:{self.port(clusters.LEDGER_PORT, node)}/{path}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)["result"]

    def until(self, node, path):
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.get(node, path)
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, f"node {node} does not answer {path}"
                time.sleep(0.05)


@pytest.fixture()
def servers(tmp_path):
    servers = Servers(tmp_path)
    yield servers
    servers.stop()


def test_nodes_agree_on_what_their_files_list(servers):
    lines = [servers.refusal(node, "") for node in (1, 2, 3)]
    keys = [re.search(r'ledger\.validators\.(\d) = "(\S{44})"', line) for line in lines]
    assert [key[1] for key in keys] == ["1", "2", "3"], lines
    listed = "[ledger.validators]\n" + "".join(f'{key[1]} = "{key[2]}"\n' for key in keys)
    assert "ledger.genesis_time is missing" in servers.refusal(1, listed)
    timed = 'genesis_time = "2026-01-31T00:00:00Z"\n' + listed
    swapped = timed.replace(keys[0][2], keys[1][2], 1)
    assert "ledger.validators.1 is another key than this node's" in servers.refusal(1, swapped)

    for _ in range(2):
        servers.start(timed)
        genesis = [servers.until(node, "genesis")["genesis"] for node in (1, 2, 3)]
        assert genesis[0] == genesis[1] == genesis[2]
        assert (genesis[0]["genesis_time"], len(genesis[0]["validators"])) == ("2026-01-31T00:00:00Z", 3)
        text = f"k{time.monotonic_ns()}=v"
        done = servers.until(2, f"broadcast_tx_commit?tx=%22{text}%22")
        assert done["tx_result"]["code"] == 0
        height = done["height"]
        seen = {json.dumps(servers.until(node, f"block?height={height}")["block_id"]) for node in (1, 2, 3)}
        assert len(seen) == 1
        servers.stop()
