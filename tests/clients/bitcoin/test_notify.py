"""An operator's commands: each runs when it should, and a command that hangs holds up no call."""

from node import Node, eventually


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_commands_are_told_of_blocks_and_transactions(tmp_path):
    blocks, txs = tmp_path / "blocks", tmp_path / "txs"
    started, ended = tmp_path / "started", tmp_path / "ended"
    flags = (
        f"-blocknotify=echo %s >> {blocks}",
        f"-walletnotify=echo %w %h %b %s >> {txs}",
        f"-startupnotify=echo it runs >> {started}",
        f"-shutdownnotify=sleep 0.3; echo one >> {ended}",
        f"-shutdownnotify=echo two >> {ended}",
    )
    with Node(tmp_path / "node", *flags) as node:
        eventually("the command ran", lambda: lines(started) == ["it runs"])
        # All that a shell might take for something else.
        name = "it's $HOME; `a`\\\n\"b\""
        node.call("createwallet", name)
        quoted = "it%27s%20%24HOME%3B%20%60a%60%5C%0A%22b%22"
        address = node.call("getnewaddress", wallet=quoted)
        hashes = node.call("generatetoaddress", 101, address)
        eventually("the command ran", lambda: sorted(lines(blocks)) == sorted(hashes))
        eventually("the command ran", lambda: txs.exists() and txs.read_text().count(name) == 101)
        coinbase = node.call("getblock", hashes[4])["tx"][0]
        assert f"{name} 5 {hashes[4]} {coinbase}\n" in txs.read_text()

        paid = node.call("sendtoaddress", address, 1, wallet=quoted)
        eventually("the command ran", lambda: f"{name} -1 unconfirmed {paid}\n" in txs.read_text())
        tip = node.call("generatetoaddress", 1, address)[0]
        eventually("the command ran", lambda: f"{name} 102 {tip} {paid}\n" in txs.read_text())
        # It is in no block any more.
        txs.unlink()
        node.call("invalidateblock", tip)
        eventually("the command ran", lambda: txs.exists() and f"{name} -1 unconfirmed {paid}\n" in txs.read_text())
        node.stop()
        assert sorted(lines(ended)) == ["one", "two"], "the process waits for them"
        assert lines(started) == ["it runs"]


def test_a_command_that_hangs_holds_up_nobody(tmp_path):
    end = tmp_path / "end"
    with Node(tmp_path / "node", f"-blocknotify=until [ -e {end} ]; do sleep 0.1; done") as node:
        assert len(node.call("generatetodescriptor", 40, "raw(51)")) == 40
        node.stop()
    end.touch()


def test_a_long_chain_that_does_not_count_is_an_alert(tmp_path):
    alerts = tmp_path / "alerts"
    with Node(tmp_path / "node", f"-alertnotify=echo %s >> {alerts}") as node:
        hashes = node.call("generatetodescriptor", 20, "raw(51)")
        node.call("invalidateblock", hashes[-1])
        assert node.call("getblockchaininfo")["warnings"] == []
        assert not alerts.exists()
        node.call("invalidateblock", hashes[5])
        warning = node.call("getblockchaininfo")["warnings"]
        assert len(warning) == 1 and "invalid chain more than 6 blocks longer" in warning[0]
        eventually("the command ran", lambda: lines(alerts) == warning)
        # Once it is not so far behind there is nothing to warn of.
        node.call("generatetodescriptor", 10, "raw(52)")
        assert node.call("getnetworkinfo")["warnings"] == []
        assert lines(alerts) == warning
