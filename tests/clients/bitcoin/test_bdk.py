"""bdkpython, a wallet that others wrote, as a light client: it finds its coins by compact filters (BIP 157, 158), signs, hands its
transaction to the node as a peer does, and sees its confirmation come, go by a reorganisation, and come back."""

import asyncio

import pytest

from light import Light
from node import Node


async def pays(node, folder):
    light = Light()
    node.call("generatetoaddress", 1, str(light.address))
    node.call("generatetodescriptor", 105, "raw(51)")
    light.connect(node.port, folder)
    await light.follow(lambda: light.height() == 106)
    assert light.wallet.balance().total.to_sat() == 5_000_000_000

    tx = light.pay(100_000)
    txid = str(tx.compute_txid())
    await asyncio.wait_for(light.client.broadcast(tx), 20)
    for _ in range(100):
        if txid in node.call("getrawmempool"):
            break
        await asyncio.sleep(0.1)
    [block] = node.call("generatetodescriptor", 1, "raw(51)")
    assert txid in node.call("getblock", block)["tx"]
    await light.follow(lambda: light.has_confirmed(tx))
    # A longer chain without it.
    node.call("invalidateblock", block)
    for _ in range(2):
        node.call("generateblock", "raw(51)", [])
    await light.follow(lambda: light.height() == 108 and not light.has_confirmed(tx))
    node.call("generatetodescriptor", 1, "raw(51)")
    await light.follow(lambda: light.has_confirmed(tx))
    light.client.shutdown()


@pytest.mark.timeout(120)
def test_a_light_wallet_pays(tmp_path):
    with Node(tmp_path / "node", "-blockfilterindex=1", "-peerblockfilters=1") as node:
        asyncio.run(pays(node, tmp_path))
