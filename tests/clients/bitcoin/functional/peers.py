"""Peers: the handshake, headers first, compact blocks, and what is done to those who misbehave."""

from test_framework.blocktools import create_block, create_coinbase
from test_framework.messages import (
    CBlock, CBlockHeader, CInv, HeaderAndShortIDs, MSG_BLOCK, MSG_WITNESS_FLAG, from_hex, msg_block, msg_cmpctblock, msg_getdata,
    msg_getheaders, msg_headers, msg_inv, msg_ping, msg_sendcmpct,
)
from test_framework.p2p import P2PInterface, P2P_SERVICES, p2p_lock
from test_framework.test_framework import BitcoinTestFramework
from test_framework.util import assert_equal


class Peer(P2PInterface):
    def __init__(self):
        super().__init__()
        self.compact = []

    def on_cmpctblock(self, message):
        self.compact.append(message.header_and_shortids)

    def on_inv(self, message):
        pass


class PeersTest(BitcoinTestFramework):
    def set_test_params(self):
        self.num_nodes = 2
        self.setup_clean_chain = True
        self.extra_args = [["-whitelist=noban@127.0.0.1"], ["-v2transport=1"]]

    def block(self, node, time=1):
        tip = node.getblock(node.getbestblockhash())
        block = create_block(int(tip["hash"], 16), create_coinbase(tip["height"] + 1), tip["time"] + time)
        block.solve()
        return block

    def run_test(self):
        node, other = self.nodes
        self.generatetodescriptor(node, 5, "raw(51)")

        self.log.info("The handshake")
        peer = node.add_p2p_connection(Peer(), services=P2P_SERVICES)
        info = node.getpeerinfo()
        assert_equal(len([row for row in info if row["subver"].startswith("/python-p2p-tester")]), 1)
        for name in ["wtxidrelay", "sendaddrv2", "verack", "sendcmpct", "feefilter"]:
            assert name in peer.last_message, name
        peer.send_and_ping(msg_ping(7))
        # Whoever speaks of compact blocks, and brings a block, is asked for such blocks unasked from then on.
        peer.send_and_ping(msg_sendcmpct(announce=True, version=2))

        self.log.info("Headers first: who announces blocks is asked for headers, then for blocks")
        block = self.block(node)
        peer.send_and_ping(msg_headers([CBlockHeader(block)]))
        peer.wait_until(lambda: "getdata" in peer.last_message)
        peer.send_and_ping(msg_block(block))
        assert_equal(node.getblockcount(), 6)
        with p2p_lock:
            peer.last_message.pop("headers", None)
        request = msg_getheaders()
        request.locator.vHave = [int(node.getblockhash(0), 16)]
        peer.send_without_ping(request)
        peer.wait_until(lambda: "headers" in peer.last_message)
        assert_equal(len(peer.last_message["headers"].headers), 6)
        self.sync_blocks()

        self.log.info("Compact blocks: asked for, and put together")
        known = int(node.getbestblockhash(), 16)
        peer.send_and_ping(msg_headers([CBlockHeader(self.header_of(node))]))
        ask = msg_getdata([CInv(4, known)])
        peer.send_and_ping(ask)
        peer.wait_until(lambda: len(peer.compact) > 0)
        new = self.block(node)
        short = HeaderAndShortIDs()
        short.initialize_from_block(new, prefill_list=[0], use_witness=True)
        peer.send_and_ping(msg_cmpctblock(short.to_p2p()))
        assert_equal(node.getblockcount(), 7)

        self.log.info("Blocks are given to whoever asks")
        peer.send_and_ping(msg_getdata([CInv(MSG_BLOCK | MSG_WITNESS_FLAG, int(node.getbestblockhash(), 16))]))
        peer.wait_until(lambda: "block" in peer.last_message)

        self.log.info("A peer that misbehaves is let go, and the node serves on")
        stranger = other.add_p2p_connection(Peer())
        bad = self.block(other)
        bad.vtx[0].vout[0].nValue += 1
        bad.hashMerkleRoot = bad.calc_merkle_root()
        bad.solve()
        stranger.send_without_ping(msg_block(bad))
        stranger.wait_for_disconnect()
        flood = other.add_p2p_connection(Peer())
        too_many = msg_inv([CInv(1, at) for at in range(50_001)])
        flood.send_without_ping(too_many)
        flood.wait_for_disconnect()
        assert_equal(other.getblockcount(), 7)
        self.generatetodescriptor(node, 1, "raw(51)")

    def header_of(self, node):
        return from_hex(CBlock(), node.getblock(node.getbestblockhash(), 0))


if __name__ == "__main__":
    PeersTest(__file__).main()
