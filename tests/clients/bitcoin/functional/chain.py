"""Blocks: what is taken, what is refused and in which words, which chain counts, and what an operator may say of it."""

from test_framework.blocktools import create_block, create_coinbase
from test_framework.messages import CBlock, from_hex
from test_framework.test_framework import BitcoinTestFramework
from test_framework.util import assert_equal, assert_raises_rpc_error


class ChainTest(BitcoinTestFramework):
    def set_test_params(self):
        self.num_nodes = 2
        self.setup_clean_chain = True

    def mined(self, node, **changes):
        tip = node.getblock(node.getbestblockhash())
        coinbase = changes.pop("coinbase", None) or create_coinbase(tip["height"] + 1)
        block = create_block(int(tip["hash"], 16), coinbase, tip["time"] + 1)
        for name, value in changes.items():
            setattr(block, name, value)
        block.solve()
        return block

    def run_test(self):
        node, other = self.nodes
        self.generatetoaddress(node, 10, node.get_deterministic_priv_key().address)
        assert_equal(other.getblockcount(), 10)

        self.log.info("A block is taken once, and refused in Core's words")
        block = self.mined(node)
        assert_equal(node.submitblock(block.serialize().hex()), None)
        assert_equal(node.submitblock(block.serialize().hex()), "duplicate")
        assert_equal(node.getbestblockhash(), block.hash_hex)
        self.sync_blocks()
        greedy = self.mined(node, coinbase=create_coinbase(12))
        greedy.vtx[0].vout[0].nValue += 1
        greedy.hashMerkleRoot = greedy.calc_merkle_root()
        greedy.solve()
        assert_equal(node.submitblock(greedy.serialize().hex()), "bad-cb-amount")
        assert_equal(node.submitblock(greedy.serialize().hex()), "duplicate-invalid")
        late = create_coinbase(50)
        late.nLockTime = 0
        late = self.mined(node, coinbase=late)
        assert_equal(node.submitblock(late.serialize().hex()), "bad-cb-height")
        root = self.mined(node, hashMerkleRoot=7)
        assert_equal(node.submitblock(root.serialize().hex()), "bad-txnmrklroot")
        early = self.mined(node, nTime=1)
        assert_equal(node.submitblock(early.serialize().hex()), "time-too-old")
        ahead = self.mined(node, nTime=2**32 - 1)
        assert_equal(node.submitblock(ahead.serialize().hex()), "time-too-new")
        old = self.mined(node, nVersion=1)
        assert_equal(node.submitblock(old.serialize().hex()), "bad-version(0x00000001)")
        orphan = self.mined(node, hashPrevBlock=7)
        assert_equal(node.submitblock(orphan.serialize().hex()), "prev-blk-not-found")
        assert_raises_rpc_error(-22, "Block decode failed", node.submitblock, "00")
        assert_raises_rpc_error(-25, "Must submit previous header", node.submitheader, orphan.serialize().hex()[:160])

        self.log.info("The most work counts: two nodes part, and one follows the other")
        self.disconnect_nodes(0, 1)
        fork = node.getbestblockhash()
        short = self.generatetoaddress(node, 2, node.get_deterministic_priv_key().address, sync_fun=self.no_op)
        long = self.generatetoaddress(other, 3, other.get_deterministic_priv_key().address, sync_fun=self.no_op)
        self.connect_nodes(0, 1)
        self.sync_blocks()
        assert_equal(node.getbestblockhash(), long[-1])
        tips = {tip["hash"]: tip for tip in node.getchaintips()}
        assert_equal(tips[long[-1]]["status"], "active")
        assert_equal(tips[short[-1]]["status"], "valid-fork")
        assert_equal(tips[short[-1]]["branchlen"], 2)

        self.log.info("An operator's word counts until it is taken back")
        self.disconnect_nodes(0, 1)
        node.invalidateblock(long[0])
        assert_equal(node.getbestblockhash(), short[-1])
        statuses = {tip["hash"]: tip["status"] for tip in node.getchaintips()}
        assert_equal(statuses[long[-1]], "invalid")
        node.invalidateblock(short[0])
        assert_equal(node.getbestblockhash(), fork)
        node.reconsiderblock(short[0])
        assert_equal(node.getbestblockhash(), short[-1])
        node.reconsiderblock(long[-1])
        assert_equal(node.getbestblockhash(), long[-1])
        equal = self.generatetoaddress(node, 1, node.get_deterministic_priv_key().address, sync_fun=self.no_op)
        rival = self.generatetoaddress(other, 1, other.get_deterministic_priv_key().address, sync_fun=self.no_op)
        assert_equal(node.submitblock(other.getblock(rival[0], 0)), "inconclusive")
        assert_equal(node.getbestblockhash(), equal[0])
        node.preciousblock(rival[0])
        assert_equal(node.getbestblockhash(), rival[0])

        self.log.info("A kill loses nothing that a call was answered for")
        self.generatetoaddress(node, 5, node.get_deterministic_priv_key().address, sync_fun=self.no_op)
        tip = node.getbestblockhash()
        node.process.kill()
        node.process.wait()
        node.running = False
        node.process = None
        self.start_node(0)
        assert_equal(node.getbestblockhash(), tip)
        self.connect_nodes(0, 1)
        self.generatetoaddress(node, 6, node.get_deterministic_priv_key().address)
        block = from_hex(CBlock(), node.getblock(node.getbestblockhash(), 0))
        assert_equal(len(block.vtx), 1)


if __name__ == "__main__":
    ChainTest(__file__).main()
