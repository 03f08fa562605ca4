"""`verity bitcoin mine`: templates from the node, real work, and blocks back to it; and the tour."""

import json
import os
import subprocess

from node import Node


def mine(*flags):
    line = [os.environ["VERITY"], "bitcoin", "mine", *flags]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def test_a_miner_finds_blocks(tmp_path):
    with Node(tmp_path) as node:
        node.call("createwallet", "w")
        address = node.call("getnewaddress", wallet="w")
        where = ["--rpc", f"127.0.0.1:{node.rpc_port}", "--cookie", str(tmp_path / "regtest/.cookie")]
        ran = mine("--address", address, *where, "--blocks", "3", "--json")
        assert ran.returncode == 0, ran.stderr
        assert [json.loads(line)["height"] for line in ran.stdout.splitlines()] == [1, 2, 3]
        assert node.call("getblockcount") == 3
        # What waits goes into the next block.
        node.call("generatetoaddress", 100, address)
        txid = node.call("sendtoaddress", address, 1, wallet="w")
        assert mine("--address", address, *where, "--blocks", "1").returncode == 0
        assert txid in node.call("getblock", node.call("getbestblockhash"))["tx"]
        wrong = mine("--address", "nowhere", *where)
        assert wrong.returncode == 1 and "is no address" in wrong.stderr
        nobody = mine("--address", address, "--rpc", f"127.0.0.1:{node.rpc_port}", "--user", "x", "--password", "y")
        assert nobody.returncode == 1 and "lets nobody in" in nobody.stderr


def test_the_tour_holds_what_it_shows():
    ran = subprocess.run([os.environ["VERITY"], "tour", "bitcoin", "--json"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "3 blocks are reverted" in ran.stdout
