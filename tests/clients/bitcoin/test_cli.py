"""The client: what it prints, where, and how it ends, as scripts around Core's client expect."""

import json
import os
import subprocess

import pytest

from node import Node, free_port


class Client:
    """`verity bitcoin-cli`, by its other name, for one node."""

    def __init__(self, node, link):
        self.line = [str(link), "-regtest", f"-datadir={node.folder}", f"-rpcport={node.rpc_port}"]

    def run(self, *words, stdin=None):
        return subprocess.run([*self.line, *words], input=stdin, capture_output=True, text=True, timeout=60)

    def said(self, *words, stdin=None):
        ran = self.run(*words, stdin=stdin)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == ""
        return ran.stdout.removesuffix("\n")


@pytest.fixture
def link(tmp_path):
    # By this name the binary is Core's client.
    link = tmp_path / "bitcoin-cli"
    link.symlink_to(os.environ["VERITY"])
    return link


def test_the_tutorial(tmp_path, link):
    with Node(tmp_path / "a") as node:
        cli = Client(node, link)
        info = cli.said("getblockchaininfo")
        assert info.startswith('{\n  "chain": "regtest",\n  "blocks": 0,')
        assert json.loads(cli.said("createwallet", "w")) == {"name": "w"}
        address = cli.said("getnewaddress")
        assert address.startswith("bcrt1q"), "a text stands there bare"
        made = json.loads(cli.said("-generate", "101"))
        assert len(made["blocks"]) == 101 and made["address"].startswith("bcrt1q")
        assert cli.said("getblockcount") == "101"
        assert cli.said("getbalance") == "50.00000000", "a number stands as it came"
        txid = cli.said("-rpcwallet=w", "sendtoaddress", address, "1.5")
        assert cli.said("getrawmempool") == f'[\n  "{txid}"\n]'
        named = cli.said("-named", "sendtoaddress", f"address={address}", "amount=0.5", "fee_rate=3", "comment=a=b")
        assert json.loads(cli.said("gettransaction", named))["comment"] == "a=b"
        assert cli.said("-named", "getblockhash", "height=0") == cli.said("getblockhash", "0")
        assert cli.said("-stdin", "getblockhash", stdin="0\n") == cli.said("getblockhash", "0")
        assert cli.said("-generate").count("\n") == 5
        told = cli.said("-getinfo")
        assert told.startswith("Chain: regtest\nBlocks: 102\nHeaders: 102\n")
        assert "\nNetwork: in 0, out 0, total 0\n" in told and "\nWallet: w\n" in told and told.endswith("Warnings: (none)")
        painted = cli.said("-color=always", "-getinfo")
        assert painted.startswith("\x1b[34mChain: regtest\x1b[0m\n") and "\x1b[35mWallet: w\x1b[0m\n" in painted
        cli.said("createwallet", "v")
        assert " w\n" in cli.said("-getinfo") and "Balances\n" in cli.said("-getinfo")
        table = cli.said("-netinfo").splitlines()
        assert [line.split() for line in table[3:6]] == [
            ["in", "0", "0", "0"], ["out", "0", "0", "0", "0"], ["total", "0", "0", "0"],
        ]
        assert json.loads(cli.said("-addrinfo"))["addresses_known"]["total"] == 0
        assert cli.said("-rpcwallet=v", "lockunspent", "true") == "true"
        assert cli.said("-rpcwallet=v", "unloadwallet").startswith("{")


def test_what_goes_wrong_is_told_as_by_core(tmp_path, link):
    with Node(tmp_path / "a") as node:
        cli = Client(node, link)
        for words, code, told in [
            (("nonsense",), 89, "error code: -32601\nerror message:\nMethod not found\n"),
            (("getblockhash", "7"), 8, "error code: -8\nerror message:\nBlock height out of range\n"),
            (("getblockhash", "seven"), 1, "error: Error parsing JSON: seven\n"),
            (("getblockhash", '"7"'), 3, "error code: -3\nerror message:\nWrong type passed:\n"),
            (("-named", "getblockhash", "hight=7"), 8, "error code: -8\nerror message:\nUnknown named parameter hight\n"),
            (("-rpcuser=x", "-rpcpassword=y", "getblockcount"), 1, "error: Authorization failed: Incorrect rpcuser or rpcpassword\n"),
            (("-rpccookiefile=none", "getblockcount"), 1, "error: Could not locate RPC credentials."),
            (("-color=green", "-getinfo"), 1, "error: Invalid value for -color option. Valid values: always, auto, never.\n"),
            (("-getinfo", "more"), 1, "error: -getinfo takes no arguments\n"),
            (("-generate", "0"), 1, "error: the first argument (number of blocks to generate"),
            (("-nonsense", "getblockcount"), 1, "Error parsing command line arguments: Invalid parameter -nonsense\n"),
            ((), 1, "error: too few parameters (need at least command)\n"),
        ]:
            ran = cli.run(*words)
            assert (ran.returncode, ran.stdout) == (code, ""), (words, ran)
            assert ran.stderr.startswith(told), ran.stderr
        cli.said("createwallet", "v")
        cli.said("createwallet", "w")
        ran = cli.run("getbalance")
        assert ran.returncode == 19 and "-rpcwallet=<walletname>" in ran.stderr
        # Credentials and the port of a file count as well.
        (node.folder / "bitcoin.conf").write_text(f"regtest=1\n[regtest]\nrpcport={node.rpc_port}\n")
        short = subprocess.run([str(link), f"-datadir={node.folder}", "getblockcount"], capture_output=True, text=True)
        assert short.stdout == "0\n", short.stderr
        cookie = node.cookie.split(":")[1]
        assert cli.said("-rpcuser=__cookie__", "-stdinrpcpass", "getblockcount", stdin=cookie + "\n") == "0"
        assert cli.said("stop") != ""


def test_a_node_that_is_not_there_is_waited_for(tmp_path, link):
    node = Node(tmp_path / "a", rpc_port=free_port())
    node.folder.mkdir()
    cli = Client(node, link)
    ran = cli.run("-rpcuser=a", "-rpcpassword=b", "getblockcount")
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"error: Could not connect to the server 127.0.0.1:{node.rpc_port}\n\nMake sure")
    ran = cli.run("-rpcwait", "-rpcwaittimeout=1", "getblockcount")
    assert ran.returncode == 1 and ran.stderr.startswith("error: timeout on transient error: Could not connect")
    waiting = subprocess.Popen([*cli.line, "-rpcwait", "getblockcount"], stdout=subprocess.PIPE, text=True)
    with node:
        out, _ = waiting.communicate(timeout=30)
        assert (waiting.returncode, out) == (0, "0\n")
