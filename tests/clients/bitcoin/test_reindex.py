"""The index of blocks and the coins are made anew out of the files of blocks, also if the process ends in the middle of it."""

import time

import pytest

from node import Node

LINES = "Reindexing block file blk"


def state(node):
    info = node.call("gettxoutsetinfo", "muhash")
    # A branch that never counted since is not judged again.
    tips = sorted((tip["hash"], tip["status"] == "active") for tip in node.call("getchaintips"))
    return node.call("getbestblockhash"), info["muhash"], info["txouts"], tips


def grown(node, blocks):
    address = node.call("getnewaddress", wallet="w")
    node.call("generatetoaddress", 101, address)
    for _ in range(5):
        node.call("sendtoaddress", address, 1, wallet="w")
    node.call("generatetoaddress", blocks, address)
    # Another branch, which does not count.
    side = node.call("generatetodescriptor", 1, "raw(51)")[0]
    node.call("invalidateblock", side)
    node.call("generatetoaddress", 2, address)
    node.call("reconsiderblock", side)


def log(node):
    return (node.folder / "regtest/debug.log").read_text()


def restart(node, *flags):
    before, node.flags = node.flags, (*node.flags, *flags)
    node.start()
    node.flags = before


@pytest.mark.parametrize("flag", ["-reindex", "-reindex-chainstate"])
def test_all_is_made_anew(tmp_path, flag):
    with Node(tmp_path, "-txindex", "-blockfilterindex", "-fastprune") as node:
        node.call("createwallet", "w")
        grown(node, 500)
        before, tip = state(node), node.call("getbestblockhash")
        balance = node.call("getbalance", wallet="w")
        spent = node.call("listtransactions", "*", 1, 0, wallet="w")[0]["txid"]
        filters = node.call("getblockfilter", tip)
        node.stop()
        restart(node, flag)
        assert (LINES in log(node)) == (flag == "-reindex")
        assert state(node) == before
        assert node.call("getblockfilter", tip) == filters
        assert node.call("getrawtransaction", spent, 1)["txid"] == spent
        node.call("loadwallet", "w")
        assert node.call("getbalance", wallet="w") == balance
        node.call("generatetodescriptor", 3, "raw(51)")
        before = state(node)
        node.stop()
        node.start()
        assert state(node) == before and node.call("verifychain", 4, 0) is True
        node.stop()


def test_an_end_in_the_middle_is_gone_on_from(tmp_path):
    with Node(tmp_path, "-fastprune") as node:
        node.call("createwallet", "w")
        grown(node, 1_500)
        before = state(node)
        node.stop()
        for pause in (0.0, 0.01, 0.03, 0.1):
            node.flags = ("-fastprune", "-reindex")
            told = log(node).count(LINES)
            waited, starts = node.start_without_waiting(), time.monotonic()
            while log(node).count(LINES) == told and time.monotonic() < starts + 20:
                pass
            time.sleep(pause)
            waited.kill()
            waited.wait()
            node.process.stdout.close()
        node.flags = ("-fastprune",)
        node.start()
        assert state(node) == before
        node.stop()


def test_a_node_without_its_old_blocks_asks_for_them_anew(tmp_path):
    with Node(tmp_path / "a", "-prune=1", "-fastprune") as node, Node(tmp_path / "b") as other:
        other.call("generatetodescriptor", 900, "raw(51)")
        node.call("addnode", f"127.0.0.1:{other.port}", "onetry")
        while node.call("getblockcount") < 900:
            time.sleep(0.02)
        assert node.call("pruneblockchain", 900) > 0
        node.stop()
        restart(node, "-reindex")
        assert node.call("getblockcount") == 0, "what is behind a gap is of no use"
        node.call("addnode", f"127.0.0.1:{other.port}", "onetry")
        while node.call("getblockcount") < 900:
            time.sleep(0.02)
        node.stop()
