"""All coins in a file, as others load them: of the tip, and of a block below it, after which the chain is where it was."""

import hashlib
import io

import pytest

from node import Node, RpcError


def size(file):
    first = file.read(1)[0]
    return first if first < 253 else int.from_bytes(file.read(1 << (first - 252)), "little")


def varint(file):
    number = 0
    while True:
        byte = file.read(1)[0]
        number = (number << 7) | (byte & 0x7F)
        if byte < 0x80:
            return number
        number += 1


def amount(number):
    if number == 0:
        return 0
    number, tens = divmod(number - 1, 10)
    if tens < 9:
        number, digit = divmod(number, 9)
        number = number * 10 + digit + 1
    else:
        number += 1
    return number * 10**tens


def script(file):
    kind = varint(file)
    if kind == 0:
        return b"\x76\xa9\x14" + file.read(20) + b"\x88\xac"
    if kind == 1:
        return b"\xa9\x14" + file.read(20) + b"\x87"
    if kind in (2, 3):
        return bytes([33, kind]) + file.read(32) + b"\xac"
    assert kind >= 6, "nobody pays to uncompressed keys here"
    return file.read(kind - 6)


def compact(number):
    return bytes([number]) if number < 253 else b"\xfd" + number.to_bytes(2, "little")


def read(path):
    """The block, how many coins there are to be, and their hash as gettxoutsetinfo has it."""
    file = io.BytesIO(path.read_bytes())
    assert file.read(5) == b"utxo\xff"
    assert int.from_bytes(file.read(2), "little") == 2
    assert file.read(4).hex() == "fabfb5da"
    block, count = file.read(32)[::-1].hex(), int.from_bytes(file.read(8), "little")
    coins = []
    while txid := file.read(32):
        for _ in range(size(file)):
            vout, code, value = size(file), varint(file), amount(varint(file))
            out = script(file)
            coins.append((txid, vout, code, value, out))
    hashed = b"".join(
        txid + vout.to_bytes(4, "little") + code.to_bytes(4, "little") + value.to_bytes(8, "little") + compact(len(out)) + out
        for txid, vout, code, value, out in coins
    )
    assert len(coins) == count
    return block, count, hashlib.sha256(hashlib.sha256(hashed).digest()).digest()[::-1].hex()


def test_coins_are_written(tmp_path):
    with Node(tmp_path) as node:
        node.call("createwallet", "w")
        kinds = ["legacy", "p2sh-segwit", "bech32", "bech32m"]
        addresses = [node.call("getnewaddress", "", kind, wallet="w") for kind in kinds]
        node.call("generatetoaddress", 110, addresses[0])
        node.call("sendmany", "", {address: 1 for address in addresses}, wallet="w")
        node.call("generatetodescriptor", 1, "pk(0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798)")
        old = node.call("gettxoutsetinfo")
        node.call("sendtoaddress", addresses[2], 0.12345678, wallet="w")
        node.call("generatetodescriptor", 20, "raw(51)")
        new = node.call("gettxoutsetinfo")

        wrote = node.call("dumptxoutset", "new.dat", "latest")
        path = node.folder / "regtest/new.dat"
        assert wrote["path"] == str(path)
        assert read(path) == (new["bestblock"], new["txouts"], new["hash_serialized_3"])
        assert (wrote["coins_written"], wrote["txoutset_hash"]) == (new["txouts"], new["hash_serialized_3"])
        assert wrote["nchaintx"] == node.call("getchaintxstats", 1)["txcount"]

        outside = tmp_path / "old.dat"
        wrote = node.call("dumptxoutset", str(outside), "rollback", {"rollback": 111})
        assert (wrote["base_height"], wrote["base_hash"]) == (111, old["bestblock"])
        assert read(outside) == (old["bestblock"], old["txouts"], old["hash_serialized_3"])
        assert node.call("gettxoutsetinfo") == new, "the chain is where it was"
        # By itself it goes back to the last block of which others know a snapshot.
        node.call("generatetodescriptor", 170, "raw(51)")
        assert node.call("dumptxoutset", "299.dat", "rollback")["base_height"] == 299

        # A branch that would come in the chain's stead does not.
        tip, above = node.call("getbestblockhash"), node.call("getblockhash", 301)
        node.call("invalidateblock", above)
        node.call("generatetodescriptor", 1, "raw(52)")
        node.call("reconsiderblock", above)
        assert node.call("getbestblockhash") == tip
        assert node.call("dumptxoutset", "300.dat", "", {"rollback": 300})["base_height"] == 300
        assert node.call("getbestblockhash") == tip

        for words, *arguments in [
            ("already exists", "new.dat", "latest"),
            ("Couldn't open file", str(tmp_path / "no/folder/a.dat"), "latest"),
            ('Invalid snapshot type "x" specified.', "x.dat", "x"),
            ('Invalid snapshot type "latest" specified with rollback', "x.dat", "latest", {"rollback": 1}),
            ("after current tip", "x.dat", "rollback", {"rollback": 1_000}),
        ]:
            with pytest.raises(RpcError, match=words) as refused:
                node.call("dumptxoutset", *arguments)
            assert refused.value.code == -8
        assert not (node.folder / "regtest/x.dat").exists()
        node.stop()
