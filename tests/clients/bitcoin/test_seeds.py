"""A node that knows nobody asks a seed for addresses, and a network of one's own has none."""

import time

import pytest

from node import Node


def test_a_seed_is_asked_for_addresses(tmp_path):
    with Node(tmp_path / "a") as seed, Node(tmp_path / "b", f"-seednode=127.0.0.1:{seed.port}") as node:
        while not (peers := node.call("getpeerinfo")) or "getaddr" not in peers[0]["bytessent_per_msg"]:
            time.sleep(0.02)
        assert [peer["connection_type"] for peer in peers] == ["addr-fetch"]
        with Node(tmp_path / "c") as other:
            assert other.call("getpeerinfo") == [], "a network of one's own has no seeds"


def test_flags_that_do_not_go_together(tmp_path):
    node = Node(tmp_path, "-forcednsseed", "-dnsseed=0")
    with pytest.raises(AssertionError, match="Cannot set -forcednsseed to true when setting -dnsseed to false."):
        node.start()
    node.process.stdout.close()
