"""Peers who mean no good: headers of little work without end, messages that are too long, bytes that are none, and silence. The
node's memory stays bounded, the peer is let go, and the node serves on."""

import socket
import struct
import time

from test_framework.messages import CBlockHeader, msg_headers
from test_framework.p2p import P2PInterface
from test_framework.test_framework import BitcoinTestFramework
from test_framework.util import assert_equal, p2p_port

MAGIC = bytes.fromhex("fabfb5da")
# What a flood of tens of megabytes may leave in memory.
GROWTH_KIB_MAX = 40_000


class FloodsTest(BitcoinTestFramework):
    def set_test_params(self):
        self.num_nodes = 1
        self.setup_clean_chain = True
        # More work than anybody here will ever show.
        self.extra_args = [["-minimumchainwork=0xffffffff", "-peertimeout=30", "-v2transport=0"]]

    def memory(self):
        with open(f"/proc/{self.nodes[0].process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def headers(self, count):
        genesis = self.nodes[0].getblockheader(self.nodes[0].getblockhash(0))
        prev, moment, headers = int(genesis["hash"], 16), genesis["time"], []
        for _ in range(count):
            moment += 1
            header = CBlockHeader()
            header.hashPrevBlock, header.nTime, header.nBits, header.nVersion = prev, moment, 0x207FFFFF, 4
            while header.hash_int > 0x7FFFFF << (8 * 29):
                header.nNonce += 1
            prev = header.hash_int
            headers.append(header)
        return headers

    def raw(self):
        connection = socket.create_connection(("127.0.0.1", p2p_port(0)), timeout=30)
        connection.settimeout(30)
        return connection

    def closes(self, connection, within=5):
        begin = time.monotonic()
        try:
            while connection.recv(65_536):
                pass
        except ConnectionResetError:
            pass
        connection.close()
        assert time.monotonic() - begin < within

    def run_test(self):
        node = self.nodes[0]
        before = self.memory()

        self.log.info("Headers of little work are not kept, however many come")
        headers = self.headers(2_000)
        for _ in range(12):
            peer = node.add_p2p_connection(P2PInterface())
            for _ in range(4):
                peer.send_without_ping(msg_headers(headers))
            peer.sync_with_ping() if peer.is_connected else None
            assert_equal(node.getblockchaininfo()["headers"], 0)
            node.disconnect_p2ps()
        assert_equal(len(node.getchaintips()), 1)

        grown = self.memory() - before
        self.log.info(f"The node's memory has grown by {grown} KiB")
        assert grown < GROWTH_KIB_MAX, grown

        self.log.info("A message that says it is too long ends the connection before it is read")
        for command in (b"tx", b"block", b"nonsense"):
            connection = self.raw()
            connection.sendall(MAGIC + command.ljust(12, b"\0") + struct.pack("<I", 4_000_001) + b"\0" * 4)
            self.closes(connection)

        self.log.info("Bytes that are no message end it, too")
        connection = self.raw()
        try:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"\xff" * 8_192)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.closes(connection)

        self.log.info("Whoever says nothing is let go")
        self.restart_node(0, [*self.extra_args[0], "-peertimeout=2"])
        for connection in [self.raw() for _ in range(20)]:
            self.closes(connection, within=15)
        self.wait_until(lambda: node.getconnectioncount() == 0)

        self.generatetodescriptor(node, 3, "raw(51)", sync_fun=self.no_op)
        peer = node.add_p2p_connection(P2PInterface())
        peer.sync_with_ping()


if __name__ == "__main__":
    FloodsTest(__file__).main()
