"""Core's vectors of addresses and keys (`key_io_valid.json`, `key_io_invalid.json`), asked of a node of each network."""

import json
import os
from pathlib import Path

import pytest

from node import Node, RpcError

CHAINS = {"main": "-chain=main", "testnet4": "-testnet4", "signet": "-signet", "regtest": "-regtest"}
FOLDERS = {"main": ".", "testnet4": "testnet4", "signet": "signet", "regtest": "regtest"}


def read(name):
    return json.loads((Path(os.environ["BITCOIN_VECTORS"]) / name).read_text())


def takes_key(node, key):
    try:
        node.call("signmessagewithprivkey", key, "words")
        return True
    except RpcError as error:
        assert error.code == -5
        return False


@pytest.mark.parametrize("chain", CHAINS)
def test_addresses_and_keys(chain, tmp_path):
    with Node(tmp_path, "-listen=0", "-connect=0", chain=CHAINS[chain], folder_of_chain=FOLDERS[chain]) as node:
        looked = 0
        for text, payload, facts in read("key_io_valid.json"):
            own = facts["chain"] == chain
            if facts["isPrivkey"]:
                # Keys of all test networks look the same.
                fits = (facts["chain"] == "main") == (chain == "main")
                assert takes_key(node, text) == fits, text
                continue
            answer = node.call("validateaddress", text)
            if own:
                assert answer["isvalid"] and answer["scriptPubKey"] == payload, text
                if facts.get("tryCaseFlip"):
                    assert node.call("validateaddress", text.swapcase())["isvalid"], text
                looked += 1
            elif "main" in (facts["chain"], chain) or "regtest" in (facts["chain"], chain) and text[:2] in ("bc", "tb"):
                assert not answer["isvalid"], text
        assert looked >= 8, f"{looked} addresses of {chain}"
        for (text,) in read("key_io_invalid.json"):
            assert not node.call("validateaddress", text)["isvalid"], text
            assert not takes_key(node, text), text
