"""A node that ends by itself, in order."""

from node import Node


def test_a_node_ends_at_the_height_that_was_asked_for(tmp_path):
    with Node(tmp_path / "node", "-stopatheight=5") as node:
        node.call("generatetodescriptor", 4, "raw(51)")
        assert node.call("getblockcount") == 4
        try:
            node.call("generatetodescriptor", 1, "raw(51)")
        except OSError:
            pass  # It may be gone before it answers.
        assert node.process.wait(20) == 0
    # What is there already does not end it; the next block does.
    with Node(tmp_path / "node", "-stopatheight=5") as node:
        assert node.call("getblockcount") == 5
        try:
            node.call("generatetodescriptor", 1, "raw(51)")
        except OSError:
            pass
        assert node.process.wait(20) == 0
    with Node(tmp_path / "node") as node:
        assert node.call("getblockcount") == 6
