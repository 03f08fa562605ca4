"""Mining: templates, proposals, long polls, and blocks that are found elsewhere."""

import threading

from test_framework.authproxy import JSONRPCException
from test_framework.blocktools import create_coinbase
from test_framework.messages import CBlock, from_hex
from test_framework.test_framework import BitcoinTestFramework
from test_framework.util import assert_equal, assert_raises_rpc_error, get_rpc_proxy
from test_framework.wallet import MiniWallet


class MiningTest(BitcoinTestFramework):
    def set_test_params(self):
        self.num_nodes = 1
        self.setup_clean_chain = True

    def run_test(self):
        node = self.nodes[0]
        wallet = MiniWallet(node)
        self.generate(wallet, 102)

        self.log.info("A template becomes a block")
        sent = wallet.send_self_transfer(from_node=node)
        template = node.getblocktemplate({"rules": ["segwit"]})
        assert_equal(template["height"], 103)
        assert_equal(template["coinbasevalue"], 50 * 100_000_000 + int(sent["fee"] * 100_000_000))
        assert_raises_rpc_error(-8, "getblocktemplate must be called with the segwit rule set", node.getblocktemplate, {})
        block = CBlock()
        block.nVersion = template["version"]
        block.hashPrevBlock = int(template["previousblockhash"], 16)
        block.nTime = template["curtime"]
        block.nBits = int(template["bits"], 16)
        block.vtx = [create_coinbase(103)]
        block.hashMerkleRoot = block.calc_merkle_root()
        propose = {"mode": "proposal", "data": block.serialize().hex(), "rules": ["segwit"]}
        assert_equal(node.getblocktemplate(propose), None)
        block.vtx[0].vout[0].nValue *= 2
        block.hashMerkleRoot = block.calc_merkle_root()
        propose["data"] = block.serialize().hex()
        assert_equal(node.getblocktemplate(propose), "bad-cb-amount")

        self.log.info("A long poll answers when there is something new")
        answers = []
        proxy = get_rpc_proxy(node.url, 1, timeout=60, coveragedir=node.coverage_dir)

        def poll():
            answers.append(proxy.getblocktemplate({"longpollid": template["longpollid"], "rules": ["segwit"]}))

        thread = threading.Thread(target=poll)
        thread.start()
        self.generate(wallet, 1)
        thread.join(30)
        assert_equal(answers[0]["height"], 104)

        self.log.info("Blocks of one's own choice")
        made = self.generateblock(node, output="raw(51)", transactions=[])
        assert_equal(node.getblock(made["hash"])["nTx"], 1)
        offered = node.generateblock(output="raw(51)", transactions=[], submit=False, called_by_framework=True)
        block = from_hex(CBlock(), offered["hex"])
        assert_equal(node.getbestblockhash(), made["hash"])
        assert_equal(node.submitblock(block.serialize().hex()), None)
        assert_equal(node.getbestblockhash(), offered["hash"])
        info = node.getmininginfo()
        assert_equal((info["blocks"], info["chain"]), (105, "regtest"))
        try:
            node.generateblock(output="raw(51)", transactions=["00" * 32], called_by_framework=True)
            raise AssertionError("an unknown transaction is refused")
        except JSONRPCException as error:
            assert_equal(error.error["code"], -5)


if __name__ == "__main__":
    MiningTest(__file__).main()
