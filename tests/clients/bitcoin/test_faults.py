"""`verity up` with Bitcoin: its nodes are each other's peers, and an operator breaks them while wallets that others wrote look on."""

import asyncio
import time
from pathlib import Path

import pytest

import clusters
from light import Light
from node import Calls, RpcError, eventually


@pytest.fixture
def cluster(tmp_path):
    with clusters.bitcoin(tmp_path, "--nodes", "3") as cluster:
        yield cluster


def members(cluster):
    """Calls to the nodes, as anybody who can read their folders makes them."""
    return [
        Calls(
            int(node["endpoints"]["bitcoin"].rsplit(":", 1)[1]),
            (Path(cluster.data_dir) / f"node-{node['id']}/bitcoin/regtest/.cookie").read_text(),
        )
        for node in cluster.nodes
    ]


def p2p_port(cluster, node):
    return int(cluster.nodes[node - 1]["endpoints"]["bitcoin-p2p"].rsplit(":", 1)[1])


def tips(nodes):
    return {node.call("getbestblockhash") for node in nodes}


def funded(nodes):
    """A wallet at the first node, with coins; its name."""
    eventually("all are connected", lambda: all(node.call("getconnectioncount") == 2 for node in nodes))
    nodes[0].call("createwallet", "w")
    nodes[0].call("generatetoaddress", 103, nodes[0].call("getnewaddress", wallet="w"))
    eventually("all follow", lambda: len(tips(nodes)) == 1)
    return "w"


async def sees_a_reorganisation(cluster, nodes, folder):
    light = Light()
    nodes[0].call("generatetoaddress", 1, str(light.address))
    nodes[0].call("generatetodescriptor", 103, "raw(51)")
    light.connect(p2p_port(cluster, 2), folder)
    await light.follow(lambda: light.height() == 104)
    tx = light.pay(200_000)
    txid = str(tx.compute_txid())
    await asyncio.wait_for(light.client.broadcast(tx), 20)
    eventually("the payment travels", lambda: txid in nodes[2].call("getrawmempool"))
    nodes[2].call("generatetodescriptor", 3, "raw(51)")
    await light.follow(lambda: light.height() == 107 and light.has_confirmed(tx))
    answer = await asyncio.to_thread(cluster.chain_fault, "reorg", depth=3)
    assert (answer["reverted"], answer["blocks"], answer["fork"]) == (3, 4, 104)
    assert tips(nodes) == {answer["tip"]}
    await light.follow(lambda: light.height() == 108 and not light.has_confirmed(tx))
    assert all(txid in node.call("getrawmempool") for node in nodes), "it waits again"
    nodes[0].call("generatetodescriptor", 1, "raw(51)")
    await light.follow(lambda: light.has_confirmed(tx))
    light.client.shutdown()


@pytest.mark.timeout(120)
def test_a_light_wallet_sees_a_reorganisation(cluster, tmp_path):
    nodes = members(cluster)
    eventually("all are connected", lambda: all(node.call("getconnectioncount") == 2 for node in nodes))
    asyncio.run(sees_a_reorganisation(cluster, nodes, tmp_path))


def test_a_payment_is_reversed(cluster):
    nodes = members(cluster)
    wallet = funded(nodes)
    nodes[1].call("createwallet", "merchant")
    shop = nodes[1].call("getnewaddress", wallet="merchant")
    paid = nodes[0].call("sendtoaddress", shop, 7, wallet=wallet)
    eventually("it travels", lambda: paid in nodes[2].call("getrawmempool"))
    nodes[2].call("generatetodescriptor", 2, "raw(51)")
    eventually("the merchant sees it", lambda: nodes[1].call("getbalance", wallet="merchant") == 7)
    answer = cluster.chain_fault("reorg", depth=2, double_spend=paid)
    eventually("the merchant loses it", lambda: nodes[1].call("getbalance", wallet="merchant") == 0)
    assert nodes[1].call("gettransaction", paid, wallet="merchant")["confirmations"] == -3
    assert nodes[0].call("gettransaction", answer["double_spend"], wallet=wallet)["confirmations"] == 3
    assert not any(nodes[2].call("getrawmempool"))


def test_miners_that_are_cut_off_mine_apart(cluster):
    nodes = members(cluster)
    funded(nodes)
    address = nodes[0].call("getnewaddress", wallet="w")
    cluster.fault("partition", **{"from": 3})
    cluster.chain_fault("miners", interval_ms=20, shares={"1": 0.8, "3": 0.2}, address=address)
    base = 103
    eventually("both sides mine", lambda: nodes[1].call("getblockcount") > base + 8 and nodes[2].call("getblockcount") > base)
    assert len(tips(nodes)) > 1
    cluster.fault("heal")
    eventually("they agree", lambda: len(tips(nodes)) == 1)
    forks = [tip for tip in nodes[2].call("getchaintips") if tip["status"] != "active"]
    assert any(tip["status"] == "valid-fork" for tip in forks), forks
    height = nodes[0].call("getblockcount")
    time.sleep(0.3)
    assert nodes[0].call("getblockcount") == height, "nobody mines any more"


def test_more_than_half_wins_every_race(cluster):
    nodes = members(cluster)
    funded(nodes)
    for _ in range(3):
        before = nodes[0].call("getbestblockhash")
        answer = cluster.chain_fault("attack", share=0.9, confirmations=2)
        assert answer["won"] and answer["attacker"] > answer["honest"] >= 2, answer
        eventually("all follow the attacker", lambda: len(tips(nodes)) == 1)
        assert nodes[0].call("getblockheader", before)["confirmations"] == answer["attacker"] + 1
    lost = [cluster.chain_fault("attack", share=0.01, confirmations=6)["won"] for _ in range(3)]
    assert lost == [False] * 3, "the odds are below one in a million each"


def test_an_eclipsed_node_believes_what_nobody_else_does(cluster):
    nodes = members(cluster)
    wallet = funded(nodes)
    nodes[1].call("createwallet", "merchant")
    shop = nodes[1].call("getnewaddress", wallet="merchant")
    paid = nodes[0].call("sendtoaddress", shop, 3, wallet=wallet)
    eventually("it travels", lambda: paid in nodes[1].call("getrawmempool"))
    answer = cluster.chain_fault("eclipse", node=2, blocks=6, double_spend=paid)
    assert nodes[1].call("gettransaction", paid, wallet="merchant")["confirmations"] == 6
    assert (answer["height"], nodes[0].call("getblockcount")) == (109, 104)
    assert [node["faults"] for node in cluster.status() if node["id"] == 2] == [["its Bitcoin node hears an attacker alone"]]
    nodes[0].call("generatetodescriptor", 7, "raw(51)")
    assert nodes[1].call("getblockcount") == 109, "it hears nothing of them"
    cluster.fault("heal")
    eventually("it follows the most work", lambda: len(tips(nodes)) == 1)
    assert nodes[1].call("getbalance", wallet="merchant") == 0
    assert nodes[1].call("gettransaction", paid, wallet="merchant")["confirmations"] < 0


def test_a_crashed_node_comes_back_and_catches_up(cluster, tmp_path):
    nodes = members(cluster)
    funded(nodes)
    backup = str(tmp_path / "w.dat")
    nodes[0].call("backupwallet", backup, wallet="w")
    cluster.fault("crash", node=1)
    with pytest.raises(OSError):
        nodes[0].call("getblockcount")
    nodes[1].call("generatetodescriptor", 3, "raw(51)")
    cluster.fault("restart", node=1)
    nodes = members(cluster)
    eventually("it catches up", lambda: tips(nodes) == {nodes[1].call("getbestblockhash")})
    assert [node["bitcoin"]["height"] for node in cluster.status()] == [106] * 3
    # The wallet pays on from its backup, and at another node.
    nodes[1].call("restorewallet", "again", backup)
    assert nodes[1].call("getbalance", wallet="again") == 300


def test_a_moved_clock_does_not_keep_a_chain_from_being_opened(cluster):
    nodes = members(cluster)
    eventually("all are connected", lambda: all(node.call("getconnectioncount") == 2 for node in nodes))
    nodes[0].call("generatetodescriptor", 3, "raw(51)")
    eventually("all follow", lambda: len(tips(nodes)) == 1)
    cluster.fault("clock", node=1, skew_ms=4 * 3_600_000)
    ahead = nodes[0].call("generatetodescriptor", 12, "raw(51)")
    assert nodes[0].call("getblockheader", ahead[-1])["time"] > time.time() + 3 * 3_600
    cluster.fault("clock", node=1, skew_ms=0)
    cluster.fault("crash", node=1)
    cluster.fault("restart", node=1)
    assert members(cluster)[0].call("getbestblockhash") == ahead[-1]
    assert nodes[1].call("getblockcount") < 15, "whose clocks are right do not take all of it yet"


def test_a_node_of_a_cluster_runs_an_operators_commands(tmp_path):
    blocks = tmp_path / "blocks"
    with clusters.bitcoin(tmp_path / "c", "--nodes", "1", options=[f"blocknotify=echo %s >> {blocks}"]) as cluster:
        hashes = members(cluster)[0].call("generatetodescriptor", 2, "raw(51)")
        eventually("it is run", lambda: blocks.exists() and sorted(blocks.read_text().split()) == sorted(hashes))


def test_what_cannot_be_done_is_told(cluster):
    nodes = members(cluster)
    funded(nodes)
    refusals = [
        ("reorg", {"depth": 0}, "blocks deep"),
        ("reorg", {"depth": 200}, "cannot be reverted"),
        ("reorg", {"depth": 2, "double_spend": "00" * 32}, "getrawtransaction"),
        ("attack", {"share": 1.5, "confirmations": 2}, "between 0 and 1"),
        ("eclipse", {"node": 9, "blocks": 1}, "no node 9"),
        ("miners", {"interval_ms": 1000, "shares": {"7": 1.0}}, "no node 7"),
        ("miners", {"interval_ms": 1000, "address": "nobody"}, "no address"),
        ("miners", {"interval_ms": 1}, "ms"),
    ]
    for fault, fields, words in refusals:
        with pytest.raises(Exception) as refused:
            cluster.chain_fault(fault, **fields)
        assert words in refused.value.read().decode(), fault
    # An eclipse that did not come about leaves nobody cut off.
    with pytest.raises(OSError):
        cluster.chain_fault("eclipse", node=2, blocks=2, double_spend="00" * 32)
    block = nodes[0].call("generatetodescriptor", 1, "raw(51)")
    eventually("node 2 hears it", lambda: tips(nodes) == set(block))
    with pytest.raises(RpcError):
        nodes[0].call("nonsense")
