"""Figures of all coins, and who spends what: kept through kills, reorganisations and starts without them."""

import pytest

from node import Node, RpcError

BOTH = ("-coinstatsindex", "-txospenderindex")


def same(node):
    """What is kept of the tip is what its coins say."""
    kept, counted = node.call("gettxoutsetinfo", "muhash"), node.call("gettxoutsetinfo", "muhash", None, False)
    assert "block_info" in kept and "disk_size" in counted
    for field in ["height", "bestblock", "txouts", "bogosize", "muhash", "total_amount"]:
        assert kept[field] == counted[field], field
    info = kept["block_info"]
    made = info["new_outputs_ex_coinbase"] + info["coinbase"] + info["unspendable"]
    subsidy = 50 / 2 ** (kept["height"] // 150)
    assert round(info["prevout_spent"] + subsidy - made, 8) == 0
    tip = node.call("getblockcount")
    for name in ["coinstatsindex", "txospenderindex"]:
        assert node.call("getindexinfo", name) == {name: {"synced": True, "best_block_height": tip}}
    return kept


def restart(node, *flags):
    node.flags = flags
    node.start()


def test_indexes_are_whole_whatever_happens(tmp_path):
    with Node(tmp_path, *BOTH) as node:
        node.call("createwallet", "w")
        address = node.call("getnewaddress", wallet="w")
        node.call("generatetoaddress", 110, address)
        paid = node.call("sendtoaddress", address, 1, wallet="w")
        spent = node.call("getrawtransaction", paid, 1)["vin"][0]
        asked = [{"txid": spent["txid"], "vout": spent["vout"]}]
        block = node.call("generatetoaddress", 1, address)[0]
        before = same(node)
        found = node.call("gettxspendingprevout", asked)
        assert found == [{**asked[0], "spendingtxid": paid, "blockhash": block}]

        # What was answered is there after a kill.
        node.kill()
        restart(node, *BOTH)
        assert same(node) == before
        assert node.call("gettxspendingprevout", asked) == found

        # A reorganisation while nobody looks.
        node.stop()
        restart(node)
        with pytest.raises(RpcError, match="requires coinstatsindex"):
            node.call("gettxoutsetinfo", "muhash", 1)
        with pytest.raises(RpcError, match="txospenderindex is unavailable"):
            node.call("gettxspendingprevout", asked, {"mempool_only": False})
        node.call("invalidateblock", block)
        for _ in range(3):
            node.call("generateblock", "raw(51)", [])
        node.stop()
        restart(node, *BOTH, "-persistmempool=0")
        same(node)
        assert node.call("gettxoutsetinfo", "muhash", block) == before, "a branch that does not count is still known"
        assert all("blockhash" not in row for row in node.call("gettxspendingprevout", asked))

        # All is made anew.
        before = same(node)
        node.stop()
        restart(node, *BOTH, "-reindex")
        assert same(node) == before
        node.call("generatetoaddress", 3, address)
        same(node)
        node.stop()


def test_who_spends_what_is_not_found_in_blocks_that_go(tmp_path):
    node = Node(tmp_path, "-prune=1", "-txospenderindex")
    assert "Prune mode is incompatible with -txospenderindex." in node.start_without_waiting().communicate(timeout=30)[0].decode()
