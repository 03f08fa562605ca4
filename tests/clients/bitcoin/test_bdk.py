"""bdkpython, a wallet that others wrote, as a light client: it finds its coins by compact filters (BIP 157, 158), signs, hands its
transaction to the node as a peer does, and sees its confirmation come, go by a reorganisation, and come back."""

import asyncio

import bdkpython as bdk
import pytest

from node import Node

WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"


def new_wallet():
    kind = bdk.NetworkKind.TEST
    secret = bdk.DescriptorSecretKey(kind, bdk.Mnemonic.from_string(WORDS), None)
    descriptors = [
        bdk.Descriptor.new_bip86(secret, keychain, kind)
        for keychain in (bdk.KeychainKind.EXTERNAL, bdk.KeychainKind.INTERNAL)
    ]
    return bdk.Wallet(*descriptors, bdk.Network.REGTEST, bdk.Persister.new_in_memory())


async def pays(node, folder):
    wallet = new_wallet()
    address = wallet.reveal_next_address(bdk.KeychainKind.EXTERNAL).address
    node.call("generatetoaddress", 1, str(address))
    node.call("generatetodescriptor", 105, "raw(51)")
    peer = bdk.Peer(address=bdk.IpAddress.from_ipv4(127, 0, 0, 1), port=node.port, v2_transport=False)
    builder = bdk.CbfBuilder().peers([peer]).connections(1).data_dir(str(folder)).only_configured_peers()
    parts = builder.scan_type(bdk.ScanType.SYNC()).build(wallet)
    parts.node.run()

    async def follow(done):
        for _ in range(20):
            wallet.apply_update(await asyncio.wait_for(parts.client.update(), 30))
            if done():
                return
        raise AssertionError(f"the wallet stays at {wallet.latest_checkpoint().height}")

    await follow(lambda: wallet.latest_checkpoint().height == 106)
    assert wallet.balance().total.to_sat() == 5_000_000_000

    amount, rate = bdk.Amount.from_sat(100_000), bdk.FeeRate.from_sat_per_vb(2)
    psbt = bdk.TxBuilder().add_recipient(address.script_pubkey(), amount).fee_rate(rate).finish(wallet)
    assert wallet.sign(psbt)
    tx = psbt.extract_tx()
    txid = str(tx.compute_txid())
    await asyncio.wait_for(parts.client.broadcast(tx), 20)
    for _ in range(100):
        if txid in node.call("getrawmempool"):
            break
        await asyncio.sleep(0.1)
    [block] = node.call("generatetodescriptor", 1, "raw(51)")
    assert txid in node.call("getblock", block)["tx"]

    def confirmed():
        found = wallet.get_tx(tx.compute_txid())
        return found is not None and found.chain_position.is_confirmed()

    await follow(confirmed)
    # A longer chain without it.
    node.call("invalidateblock", block)
    for _ in range(2):
        node.call("generateblock", "raw(51)", [])
    await follow(lambda: wallet.latest_checkpoint().height == 108 and not confirmed())
    node.call("generatetodescriptor", 1, "raw(51)")
    await follow(confirmed)
    parts.client.shutdown()


@pytest.mark.timeout(120)
def test_a_light_wallet_pays(tmp_path):
    with Node(tmp_path / "node", "-blockfilterindex=1", "-peerblockfilters=1") as node:
        asyncio.run(pays(node, tmp_path))
