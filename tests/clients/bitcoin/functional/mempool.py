"""What waits: policy, replacement, packages, templates, reorganisations and restarts."""

from decimal import Decimal

from test_framework.blocktools import COINBASE_MATURITY
from test_framework.test_framework import BitcoinTestFramework
from test_framework.util import assert_equal, assert_raises_rpc_error
from test_framework.wallet import MiniWallet


class MempoolTest(BitcoinTestFramework):
    def set_test_params(self):
        self.num_nodes = 2
        self.setup_clean_chain = True

    def run_test(self):
        node, other = self.nodes
        wallet = MiniWallet(node)
        self.generate(wallet, 20)
        self.generatetodescriptor(node, COINBASE_MATURITY, "raw(6a)")

        self.log.info("A transaction waits at both nodes, and a block takes it")
        sent = wallet.send_self_transfer(from_node=node)
        self.sync_mempools()
        entry = other.getmempoolentry(sent["txid"])
        assert_equal(entry["fees"]["base"], sent["fee"])
        template = node.getblocktemplate({"rules": ["segwit"]})
        assert_equal([tx["txid"] for tx in template["transactions"]], [sent["txid"]])
        block = self.generate(node, 1)[0]
        assert sent["txid"] in other.getblock(block)["tx"]
        assert_equal(node.getrawmempool(), [])

        self.log.info("What is no good is refused in Core's words")
        coin = wallet.get_utxo()
        good = wallet.create_self_transfer(utxo_to_spend=coin)
        assert_equal(node.testmempoolaccept([good["hex"]])[0]["allowed"], True)
        premature = wallet.create_self_transfer(utxo_to_spend=coin, locktime=5_000, sequence=0)
        assert_equal(node.testmempoolaccept([premature["hex"]])[0]["reject-reason"], "non-final")
        cheap = wallet.create_self_transfer(utxo_to_spend=coin, fee_rate=Decimal(0))
        assert_raises_rpc_error(-26, "min relay fee not met", node.sendrawtransaction, cheap["hex"])
        assert_raises_rpc_error(-25, "bad-txns-inputs-missingorspent", node.sendrawtransaction, self.orphan(wallet)["hex"])
        assert_raises_rpc_error(-22, "TX decode failed", node.sendrawtransaction, "00")

        self.log.info("A replacement pays for both")
        first = wallet.send_self_transfer(from_node=node, utxo_to_spend=coin, fee_rate=Decimal("0.0001"))
        less = wallet.create_self_transfer(utxo_to_spend=coin, fee_rate=Decimal("0.00010001"))
        assert_raises_rpc_error(-26, "insufficient fee", node.sendrawtransaction, less["hex"])
        more = wallet.send_self_transfer(from_node=node, utxo_to_spend=coin, fee_rate=Decimal("0.001"))
        assert_equal(node.getrawmempool(), [more["txid"]])
        assert_raises_rpc_error(-5, "Transaction not in mempool", node.getmempoolentry, first["txid"])

        self.log.info("A parent that pays nothing comes with a child that pays for it")
        parent = wallet.create_self_transfer(fee_rate=Decimal(0), version=3)
        child = wallet.create_self_transfer(utxo_to_spend=parent["new_utxo"], fee_rate=Decimal("0.001"), version=3)
        answer = node.submitpackage([parent["hex"], child["hex"]])
        assert_equal(answer["package_msg"], "success")
        assert parent["txid"] in node.getrawmempool()
        assert_equal(node.getmempoolentry(parent["txid"])["descendantcount"], 2)

        self.log.info("What a reorganisation takes out of the chain waits again")
        mined = self.generate(node, 1)[0]
        assert_equal(node.getrawmempool(), [])
        node.invalidateblock(mined)
        assert parent["txid"] in node.getrawmempool() and more["txid"] in node.getrawmempool()
        node.reconsiderblock(mined)
        assert_equal(node.getrawmempool(), [])

        self.log.info("What lies deeper than ten blocks does not")
        deep = wallet.send_self_transfer(from_node=node)
        mined = self.generate(node, 12)[0]
        node.invalidateblock(mined)
        assert deep["txid"] not in node.getrawmempool()
        node.reconsiderblock(mined)
        self.sync_blocks()

        self.log.info("What waits survives a restart")
        kept = wallet.send_self_transfer(from_node=node)
        node.prioritisetransaction(txid=kept["txid"], fee_delta=1_000)
        self.restart_node(0)
        self.wait_until(lambda: node.getmempoolinfo()["loaded"])
        assert_equal(node.getrawmempool(), [kept["txid"]])
        fees = node.getmempoolentry(kept["txid"])["fees"]
        assert_equal(fees["modified"], fees["base"] + Decimal("0.00001"))

    def orphan(self, wallet):
        parent = wallet.create_self_transfer()
        return wallet.create_self_transfer(utxo_to_spend=parent["new_utxo"])


if __name__ == "__main__":
    MempoolTest(__file__).main()
