"""Clients that others wrote, unchanged: python-bitcoinlib funds, signs, sends and sees confirmations and a reorganisation; a
subscriber by pyzmq hears of both; the wallet of the node itself pays."""

import decimal
import struct

import bitcoin
import bitcoin.rpc
import pytest
import zmq
from bitcoin.core import COIN, CMutableTransaction, CMutableTxIn, CMutableTxOut, COutPoint, lx
from bitcoin.core.script import SIGHASH_ALL, CScript, SignatureHash
from bitcoin.wallet import CBitcoinSecret, P2PKHBitcoinAddress

from node import Node, RpcError, free_port


@pytest.fixture
def node(tmp_path):
    topic_port = free_port()
    topics = [f"-zmqpub{topic}=tcp://127.0.0.1:{topic_port}" for topic in ("hashblock", "rawtx", "sequence")]
    with Node(tmp_path / "a", "-txindex", *topics) as node:
        node.topic_port = topic_port
        yield node


def test_python_bitcoinlib_pays(node):
    bitcoin.SelectParams("regtest")
    proxy = bitcoin.rpc.Proxy(service_url=f"http://{node.cookie}@127.0.0.1:{node.rpc_port}")
    secret = CBitcoinSecret.from_secret_bytes(bytes([7] * 32))
    address = P2PKHBitcoinAddress.from_pubkey(secret.pub)
    first = node.call("generatetoaddress", 1, str(address))[0]
    node.call("generatetodescriptor", 100, "raw(51)")
    assert proxy.getblockcount() == 101
    coinbase = proxy.getblock(lx(first)).vtx[0]

    spend = CMutableTransaction(
        [CMutableTxIn(COutPoint(coinbase.GetTxid(), 0))],
        [CMutableTxOut(int(49.999 * COIN), address.to_scriptPubKey())],
    )
    digest = SignatureHash(address.to_scriptPubKey(), spend, 0, SIGHASH_ALL)
    signature = secret.sign(digest) + bytes([SIGHASH_ALL])
    spend.vin[0].scriptSig = CScript([signature, secret.pub])
    txid = proxy.sendrawtransaction(spend)
    assert txid in proxy.getrawmempool()
    name = bitcoin.core.b2lx(txid)

    block = node.call("generatetodescriptor", 1, "raw(51)")[0]
    node.call("generatetodescriptor", 2, "raw(51)")
    assert node.call("getrawtransaction", name, 1)["confirmations"] == 3
    node.call("invalidateblock", block)
    node.call("generatetodescriptor", 0, "raw(51)")
    assert txid in proxy.getrawmempool(), "what the chain lost waits again"
    with pytest.raises(bitcoin.rpc.VerifyRejectedError):
        broken = CMutableTransaction.from_tx(spend)
        broken.vout[0].nValue += COIN
        proxy.sendrawtransaction(broken)


def test_a_subscriber_hears_of_blocks_and_transactions(node):
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVTIMEO, 10_000)
    for topic in (b"hashblock", b"rawtx", b"sequence"):
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    socket.connect(f"tcp://127.0.0.1:{node.topic_port}")
    # A subscription is in force once something of it is heard.
    heard, counts = set(), {}
    socket.setsockopt(zmq.RCVTIMEO, 200)
    while len(heard) < 3:
        block = node.call("generatetodescriptor", 1, "raw(51)")[0]
        try:
            while True:
                topic, body, count = socket.recv_multipart()
                heard.add(topic)
                (number,) = struct.unpack("<I", count)
                assert number == counts.get(topic, number - 1) + 1, "no message is missed"
                counts[topic] = number
                if topic == b"hashblock":
                    assert body.hex() == block
        except zmq.Again:
            pass
    socket.close(0)
    context.term()


def test_the_nodes_own_wallet_pays(node, tmp_path):
    node.call("createwallet", "w")
    address = node.call("getnewaddress", wallet="w")
    node.call("generatetoaddress", 101, address)
    with Node(tmp_path / "b", f"-connect=127.0.0.1:{node.port}") as other:
        other.call("createwallet", "v")
        theirs = other.call("getnewaddress", "", "bech32m", wallet="v")
        txid = node.call("sendtoaddress", theirs, 1.5, wallet="w")
        block = node.call("generatetodescriptor", 1, "raw(51)")[0]
        other.call("waitforblock", block, 20_000)
        assert other.call("getbalance", wallet="v") == 1.5
        assert other.call("gettransaction", txid, wallet="v")["confirmations"] == 1
        fee = decimal.Decimal(str(node.call("gettransaction", txid, wallet="w")["fee"]))
        assert decimal.Decimal("-0.01") < fee < 0
        with pytest.raises(RpcError) as refused:
            node.call("sendtoaddress", theirs, 1_000, wallet="w")
        assert refused.value.code == -6
        other.call("stop")
        assert other.process.wait(30) == 0
        other.start()
        other.call("loadwallet", "v")
        assert other.call("getbalance", wallet="v") == 1.5
