"""Old blocks are thrown away: by hand, by a target, and never what others or the node itself still need."""

import pytest

from node import Node, RpcError

SMALL = ("-fastprune",)


def refused(node, words, code, method, *params, **more):
    with pytest.raises(RpcError) as error:
        node.call(method, *params, **more)
    assert (str(error.value), error.value.code) == (words, code)


def mine(node, count):
    while count:
        now = min(count, 500)
        node.call("generatetodescriptor", now, "raw(51)")
        count -= now


def start_fails(node, *flags):
    before, node.flags = node.flags, flags
    with pytest.raises(AssertionError) as error:
        node.start()
    node.process.stdout.close()
    node.flags = before
    return str(error.value)


def test_blocks_go_by_hand(tmp_path):
    with Node(tmp_path / "a", "-prune=1", *SMALL) as node:
        node.call("createwallet", "w")
        info = node.call("getblockchaininfo")
        assert (info["pruned"], info["pruneheight"], info["automatic_pruning"]) == (True, 0, False)
        assert "prune_target_size" not in info
        refused(node, "Blockchain is too short for pruning.", -1, "pruneblockchain", 1)
        mine(node, 900)
        assert "NETWORK" not in node.call("getnetworkinfo")["localservicesnames"]
        assert "NETWORK_LIMITED" in node.call("getnetworkinfo")["localservicesnames"]
        refused(node, "Negative block height.", -8, "pruneblockchain", -1)
        refused(node, "Blockchain is shorter than the attempted prune height.", -8, "pruneblockchain", 901)
        words = "Could not find block with at least the specified timestamp."
        refused(node, words, -8, "pruneblockchain", 2_100_000_000)
        first = node.call("getblockhash", 1)
        assert node.call("pruneblockchain", 0) == -1
        pruned = node.call("pruneblockchain", 900)
        assert 1 <= pruned <= 612
        assert node.call("getblockchaininfo")["pruneheight"] == pruned + 1
        refused(node, "Block not available (pruned data)", -1, "getblock", first)
        refused(node, "Block not available (pruned data)", -1, "getblockstats", 1)
        words = "Can't rescan beyond pruned data. Use RPC call getblockchaininfo to determine your pruned height."
        refused(node, words, -1, "rescanblockchain", 1, wallet="w")
        assert node.call("getblockheader", first)["height"] == 1
        assert node.call("getblock", node.call("getblockhash", pruned + 1))["height"] == pruned + 1
        assert node.call("getblock", node.call("getblockhash", 0))["height"] == 0
        assert node.call("verifychain", 4, 0) is True
        assert node.call("gettxoutsetinfo")["height"] == 900
        # The end is sudden, and it goes on; without -prune it does not.
        node.kill()
        words = start_fails(node, *SMALL)
        assert "You need to rebuild the database using -reindex to go back to unpruned mode." in words
        node.start()
        assert not list((tmp_path / "a/regtest/blocks").glob("???00000.dat"))
        mine(node, 10)
        assert node.call("getblockcount") == 910
        # A light client's index cannot begin any more.
        node.stop()
        words = start_fails(node, "-prune=1", "-blockfilterindex", *SMALL)
        assert "basic block filter index best block of the index goes beyond pruned data" in words
        node.start()
        node.stop()


def test_files_go_by_a_target(tmp_path):
    with Node(tmp_path, "-prune=550", *SMALL) as node:
        mine(node, 5)
        info = node.call("getblockchaininfo")
        assert (info["automatic_pruning"], info["prune_target_size"]) == (True, 550 << 20)
        assert node.call("getblock", node.call("getblockhash", 1))["height"] == 1


def test_peers_are_given_the_last_blocks_alone(tmp_path):
    with Node(tmp_path / "a", "-prune=1", "-blockfilterindex", *SMALL) as node:
        mine(node, 900)
        assert node.call("pruneblockchain", 900) > 0
        first, late = node.call("getblockhash", 1), node.call("getblockhash", 800)
        assert node.call("getblockfilter", first)["filter"]
        with Node(tmp_path / "b", "-blockfilterindex", f"-connect=127.0.0.1:{node.port}") as other:
            # It learns of all headers, and of no block: nobody has the first ones.
            while other.call("getblockchaininfo")["headers"] < 900:
                pass
            peer = other.call("getpeerinfo")[0]
            assert "NETWORK" not in peer["servicesnames"]
            other.call("getblockfrompeer", late, peer["id"])
            while True:
                try:
                    assert other.call("getblock", late)["height"] == 800
                    break
                except RpcError as error:
                    assert error.code == -1
            assert other.call("getblockcount") == 0
            other.call("getblockfrompeer", first, peer["id"])
            # Who asks for more is let go.
            while any(one["id"] == peer["id"] for one in other.call("getpeerinfo")):
                pass


def test_flags_that_do_not_go_together(tmp_path):
    node = Node(tmp_path)
    for flags, words in [
        (("-prune=1", "-txindex"), "Prune mode is incompatible with -txindex."),
        (("-prune=-1",), "Prune cannot be configured with a negative value."),
        (("-prune=549",), "Prune configured below the minimum of 550 MiB.  Please use a higher number."),
        (("-prune=1", "-reindex-chainstate"), "Prune mode is incompatible with -reindex-chainstate. Use full -reindex instead."),
    ]:
        assert words in start_fails(node, *flags)
