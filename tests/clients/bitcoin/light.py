"""A light wallet that others wrote (bdkpython), which knows its node as a peer alone: by compact filters (BIP 157, 158)."""

import asyncio

import bdkpython as bdk

WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"


def new_wallet():
    kind = bdk.NetworkKind.TEST
    secret = bdk.DescriptorSecretKey(kind, bdk.Mnemonic.from_string(WORDS), None)
    descriptors = [
        bdk.Descriptor.new_bip86(secret, keychain, kind)
        for keychain in (bdk.KeychainKind.EXTERNAL, bdk.KeychainKind.INTERNAL)
    ]
    return bdk.Wallet(*descriptors, bdk.Network.REGTEST, bdk.Persister.new_in_memory())


class Light:
    """The wallet, and the peer that it follows."""

    def __init__(self):
        self.wallet = new_wallet()
        self.address = self.wallet.reveal_next_address(bdk.KeychainKind.EXTERNAL).address

    def connect(self, port, folder):
        peer = bdk.Peer(address=bdk.IpAddress.from_ipv4(127, 0, 0, 1), port=port, v2_transport=False)
        builder = bdk.CbfBuilder().peers([peer]).connections(1).data_dir(str(folder)).only_configured_peers()
        parts = builder.scan_type(bdk.ScanType.SYNC()).build(self.wallet)
        parts.node.run()
        self.client = parts.client

    async def follow(self, done):
        for _ in range(20):
            self.wallet.apply_update(await asyncio.wait_for(self.client.update(), 30))
            if done():
                return
        raise AssertionError(f"the wallet stays at {self.height()}")

    def height(self):
        return self.wallet.latest_checkpoint().height

    def pay(self, satoshis):
        """A signed payment to itself."""
        amount, rate = bdk.Amount.from_sat(satoshis), bdk.FeeRate.from_sat_per_vb(2)
        psbt = bdk.TxBuilder().add_recipient(self.address.script_pubkey(), amount).fee_rate(rate).finish(self.wallet)
        assert self.wallet.sign(psbt)
        return psbt.extract_tx()

    def has_confirmed(self, tx):
        found = self.wallet.get_tx(tx.compute_txid())
        return found is not None and found.chain_position.is_confirmed()
