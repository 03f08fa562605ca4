"""Random trees of blocks, judged by Bitcoin Core's kernel library and by our node: the same tip after each block, and the same reason.

The library (`py-bitcoinkernel`) tells its reasons in its log alone. `KERNEL_SEED` and `KERNEL_BLOCKS` ask for other trees and for more.
"""

import os
import random
import re
import sys
import tempfile
import time

import pbk
import pytest

sys.path.insert(0, os.environ["TEST_FRAMEWORK"])

from test_framework.blocktools import add_witness_commitment, create_block, create_coinbase  # noqa: E402
from test_framework.messages import COutPoint, CTransaction, CTxIn, CTxInWitness, CTxOut  # noqa: E402
from test_framework.script import CScript, OP_CHECKSIG, OP_EQUALVERIFY, OP_FALSE, OP_RETURN, OP_TRUE, hash256  # noqa: E402

from node import Node  # noqa: E402

REASON = re.compile(r"(?:AcceptBlock FAILED \(|Block validation error: )([^,()\n]*(?:\([^)]*\))?)")
ANYONE = CScript([OP_TRUE])
NOBODY = CScript([OP_TRUE, OP_EQUALVERIFY])
WITNESS = CScript([0, __import__("hashlib").sha256(bytes(ANYONE)).digest()])


def coarse(reason):
    return reason.split(" (")[0]


class Kernel:
    def __init__(self, folder):
        self.lines = []
        self.log = pbk.LoggingConnection(lambda line: self.lines.append(line))
        # With threads for scripts, as Core has: then a block's coins are all looked at before any script has its say.
        options = pbk.ChainstateManagerOptions(pbk.make_context(pbk.ChainType.REGTEST), folder, f"{folder}/blocks")
        options.set_worker_threads_num(1)
        self.manager = pbk.ChainstateManager(options)

    def process(self, raw):
        self.lines.clear()
        try:
            self.manager.process_block(pbk.Block(raw))
        except Exception:  # Its only word for a refusal; the reason is in the log.
            pass
        reasons = [found.group(1) for line in self.lines for found in REASON.finditer(line)]
        return reasons

    def tip(self):
        chain = self.manager.get_active_chain()
        return str(chain.block_tree_entries[chain.height].block_hash)


class Ours:
    def __init__(self, node):
        self.node, self.log = node, open(node.folder / "regtest/debug.log")

    def process(self, raw):
        """The answer, and why any block was refused on the way: a child may bring its parent's turn."""
        self.log.read()
        answer = self.node.call("submitblock", raw.hex())
        judged = [found.group(1) for found in REASON.finditer(self.log.read())]
        fine = answer in (None, "inconclusive", "duplicate", "duplicate-inconclusive")
        return answer, judged or ([] if fine else [answer])


class Tree:
    """Blocks, and the coins that each one's chain leaves."""

    def __init__(self, rng, genesis, start):
        self.rng, self.start, self.mark = rng, start, 0
        self.blocks = {genesis: (0, start, {})}
        self.order, self.tip = [genesis], genesis

    def spend(self, coins, height):
        ripe = [(outpoint, coin) for outpoint, coin in coins.items() if coin[2] + (100 if coin[3] else 0) <= height]
        if not ripe:
            return None
        (txid, n), (value, script, _, _) = self.rng.choice(ripe)
        tx = CTransaction()
        tx.vin = [CTxIn(COutPoint(txid, n), nSequence=self.rng.choice([0, 1, 5, 0xFFFFFFFF, 0x400001]))]
        tx.version = self.rng.choice([1, 2])
        share = self.rng.choice([value // 2, value // 3, value])
        outputs = [self.rng.choice([ANYONE, ANYONE, WITNESS, NOBODY, CScript([OP_RETURN, b"data"])]), ANYONE]
        tx.vout = [CTxOut(share, outputs[0]), CTxOut(max(value - share - 1_000, 0), outputs[1])]
        if script == WITNESS:
            tx.wit.vtxinwit = [CTxInWitness()]
            tx.wit.vtxinwit[0].scriptWitness.stack = [bytes(ANYONE)]
        match self.rng.randrange(24):
            case 0:
                tx.vout[0].nValue = value + 1
            case 1:
                tx.vin.append(tx.vin[0])
            case 2:
                tx.vin[0].prevout.n += 7
            case 3:
                tx.nLockTime = height + 3
                tx.vin[0].nSequence = 0
            case 4:
                tx.vin[0].scriptSig = CScript([OP_FALSE])
            case 5:
                tx.vout = []
            case 6:
                tx.vout[0].nValue = 21_000_001 * 100_000_000
        return tx

    def make(self):
        rng = self.rng
        # Mostly upon the tip; else upon any of the last, valid or not.
        parent = self.tip if rng.randrange(3) else rng.choice(self.order[-6:])
        height, moment, coins = self.blocks[parent]
        coins, moment = dict(coins), moment + rng.choice([1, 60, 600])
        self.mark += 1
        coinbase = create_coinbase(height + 1, nValue=50 >> ((height + 1) // 150))
        coinbase.vin[0].scriptSig = CScript(bytes(coinbase.vin[0].scriptSig) + self.mark.to_bytes(4, "little"))
        coinbase.vout[0].scriptPubKey = ANYONE
        txs = []
        for _ in range(rng.randrange(3)):
            tx = self.spend(coins, height + 1)
            if tx is None:
                break
            txs.append(tx)
            txid = int.from_bytes(hash256(tx.serialize_without_witness()), "little")
            for used in tx.vin:
                coins.pop((used.prevout.hash, used.prevout.n), None)
            for n, out in enumerate(tx.vout):
                coins[(txid, n)] = (out.nValue, out.scriptPubKey, height + 1, False)
        block = create_block(int(parent, 16), coinbase, moment, txlist=txs)
        if any(not tx.wit.is_null() for tx in txs) and rng.randrange(8):
            add_witness_commitment(block)
        match rng.randrange(30):
            case 0:
                block.vtx[0].vout[0].nValue += 1
                block.hashMerkleRoot = block.calc_merkle_root()
            case 1:
                block.hashMerkleRoot ^= 1
            case 2:
                block.nTime = self.start - 1
            case 3:
                block.nVersion = 1
            case 4:
                block.vtx.append(block.vtx[-1])
                block.hashMerkleRoot = block.calc_merkle_root()
            case 5:
                block.nBits = 0x207FFFFE
            case 6:
                block.vtx[0].vin[0].scriptSig = CScript([1, 2, 3])
                block.hashMerkleRoot = block.calc_merkle_root()
            case 7:
                block.vtx[0].vout[0].scriptPubKey = CScript([OP_CHECKSIG] * 9_000)
                block.vtx.extend([])
                block.hashMerkleRoot = block.calc_merkle_root()
        block.solve()
        name = f"{int.from_bytes(hash256(block.serialize()[:80]), 'little'):064x}"
        own = int.from_bytes(hash256(block.vtx[0].serialize_without_witness()), "little")
        coins[(own, 0)] = (block.vtx[0].vout[0].nValue, ANYONE, height + 1, True)
        self.blocks[name] = (height + 1, moment, coins)
        return name, block.serialize()


@pytest.mark.timeout(300)
def test_the_kernel_says_the_same(tmp_path):
    seed = int(os.environ.get("KERNEL_SEED", time.time_ns() % 2**32))
    count = int(os.environ.get("KERNEL_BLOCKS", "700"))
    rng = random.Random(seed)
    reasons, agreed = {}, 0
    with tempfile.TemporaryDirectory() as folder, Node(tmp_path) as node:
        kernel, our = Kernel(folder), Ours(node)
        genesis = node.call("getblockhash", 0)
        start = node.call("getblockheader", genesis)["time"]
        tree, held = Tree(rng, genesis, start), []
        for at in range(count):
            # A few come late, and their children before them.
            held.append(tree.make())
            if len(held) < rng.randrange(1, 3):
                continue
            rng.shuffle(held)
            for name, raw in held:
                theirs = kernel.process(raw)
                answer, ours = our.process(raw)
                where = f"KERNEL_SEED={seed}, block {at}: {answer!r} {ours!r} and {theirs!r}\n{raw.hex()[:4_000]}"
                assert node.call("getbestblockhash") == kernel.tip(), where
                # Of several scripts that fail, threads find any first.
                assert {coarse(reason) for reason in ours} == {coarse(reason) for reason in theirs}, where
                agreed += set(ours) == set(theirs)
                tree.tip = kernel.tip()
                # Nothing is built upon what nobody stores.
                if answer in (None, "inconclusive"):
                    tree.order.append(name)
                for reason in ours:
                    reasons[reason] = reasons.get(reason, 0) + 1
            held = []
        height = node.call("getblockcount")
    print(f"seed {seed}: {count} blocks to height {height}; refused for {reasons}")
    assert agreed >= count * 0.98 - 2, "words differ more often than threads can make them"
    assert len(reasons) >= min(8, count // 50), f"too few reasons were met: {reasons}"
