"""Watches by hand: what is fired when, in which order, and what a client that was away is told."""

import pytest
import wire
from peer import (
    ANY_WATCHES, CHANGED, CHILD_WATCHES, CHILDREN, CREATED, DATA_WATCHES, DELETED, PERSISTENT, RECURSIVE, Client, address,
)

NO_WATCHER, NO_NODE, MARSHALLING = -121, -101, -5


@pytest.fixture
def pair(cluster, request):
    """Two clients on two nodes, and a node of the tree for them."""
    watching, writer = Client(address(cluster, 1)), Client(address(cluster, 2))
    root = f"/{request.node.name}"
    writer.make(root)
    watching.must(wire.SYNC, "/")
    yield watching, writer, root
    watching.close()
    writer.close()


def test_persistent_watches_stay(pair):
    watching, writer, root = pair
    watching.must(wire.ADD_WATCH, root, PERSISTENT)
    for _ in range(2):
        writer.must(wire.SET_DATA, root, b"x", -1)
        writer.make(f"{root}/a")
        writer.must(wire.SET_DATA, f"{root}/a", b"x", -1)
        writer.must(wire.DELETE, f"{root}/a", -1)
    assert watching.seen() == [(CHANGED, root), (CHILDREN, root), (CHILDREN, root)] * 2


def test_recursive_watches_see_everything_below_but_no_children_events(pair):
    watching, writer, root = pair
    watching.must(wire.ADD_WATCH, root, RECURSIVE)
    writer.make(f"{root}/a")
    writer.make(f"{root}/a/b")
    writer.must(wire.SET_DATA, f"{root}/a/b", b"x", -1)
    writer.must(wire.DELETE, f"{root}/a/b", -1)
    writer.make(f"{root}-beside")
    writer.must(wire.SET_DATA, root, b"x", -1)
    below = [(CREATED, f"{root}/a"), (CREATED, f"{root}/a/b"), (CHANGED, f"{root}/a/b"), (DELETED, f"{root}/a/b")]
    assert watching.seen() == [*below, (CHANGED, root)]


def test_a_watch_on_what_is_not_there_yet(pair):
    watching, writer, root = pair
    watching.must(wire.ADD_WATCH, f"{root}/later", PERSISTENT)
    assert watching.ask(wire.EXISTS, f"{root}/later", True)["err"] == NO_NODE
    writer.make(f"{root}/later")
    writer.must(wire.DELETE, f"{root}/later", -1)
    assert watching.seen() == [(CREATED, f"{root}/later"), (DELETED, f"{root}/later")]


def test_an_event_is_told_once_however_many_watches_fit(pair):
    watching, writer, root = pair
    watching.must(wire.ADD_WATCH, root, PERSISTENT)
    watching.must(wire.ADD_WATCH, root, RECURSIVE)
    watching.must(wire.ADD_WATCH, "/", RECURSIVE)
    watching.must(wire.GET_DATA, root, True)
    watching.must(wire.EXISTS, root, True)
    watching.must(wire.GET_CHILDREN, root, True)
    writer.must(wire.DELETE, root, -1)
    assert watching.seen() == [(DELETED, root)]
    writer.make(root)
    assert watching.seen() == [(CREATED, root)], "one-time watches are gone, the others are not"
    watching.must(wire.REMOVE_WATCHES, "/", ANY_WATCHES)


def test_an_event_comes_before_the_reply_that_shows_the_change(pair):
    watching, writer, root = pair
    for round_ in range(200):
        watching.must(wire.GET_DATA, root, True)
        data = str(round_).encode()
        written = writer.send(wire.SET_DATA, root, data, -1)
        while watching.must(wire.GET_DATA, root, False)["data"] != data:
            assert watching.events == [], "the event came before the change"
        assert watching.events == [(CHANGED, root)]
        watching.events = []
        writer.receive(written, wire.SET_DATA)


def test_a_clients_own_change_is_told_before_its_reply(pair):
    watching, _, root = pair
    watching.must(wire.GET_CHILDREN, root, True)
    assert watching.ask(wire.EXISTS, f"{root}/a", True)["err"] == NO_NODE
    xid = watching.send(wire.CREATE2, f"{root}/a", b"", wire.OPEN, 0)
    frames = watching.receive(xid, wire.CREATE2)
    told = [(frame["event"], frame["path"]) for frame in frames[:-1]]
    assert told == [(CREATED, f"{root}/a"), (CHILDREN, root)]
    assert frames[-1]["err"] == 0


def test_removing_and_checking_watches(pair):
    watching, writer, root = pair
    check, remove = wire.CHECK_WATCHES, wire.REMOVE_WATCHES
    for op in (check, remove):
        for kind in (CHILD_WATCHES, DATA_WATCHES, ANY_WATCHES):
            assert watching.ask(op, root, kind)["err"] == NO_WATCHER
    assert watching.ask(remove, root, 9)["err"] == MARSHALLING
    watching.must(wire.GET_DATA, root, True)
    watching.must(check, root, DATA_WATCHES)
    watching.must(check, root, ANY_WATCHES)
    assert watching.ask(check, root, CHILD_WATCHES)["err"] == NO_WATCHER
    assert watching.ask(remove, root, CHILD_WATCHES)["err"] == NO_WATCHER
    watching.must(remove, root, DATA_WATCHES)
    assert watching.ask(remove, root, DATA_WATCHES)["err"] == NO_WATCHER
    watching.must(wire.ADD_WATCH, root, PERSISTENT)
    watching.must(wire.ADD_WATCH, root, RECURSIVE)
    watching.must(remove, root, ANY_WATCHES)
    assert watching.ask(check, root, ANY_WATCHES)["err"] == NO_WATCHER
    writer.must(wire.SET_DATA, root, b"x", -1)
    assert watching.seen() == []


def test_watches_that_are_unknown_are_refused(pair):
    watching, _, root = pair
    assert watching.ask(wire.ADD_WATCH, root, 2)["err"] == MARSHALLING
    assert watching.ask(wire.ADD_WATCH, root, -1)["err"] == MARSHALLING


def away(cluster, watching, writer, root):
    """A client loses its connection, misses much, and comes back at another node."""
    watching.must(wire.SYNC, "/")
    seen = watching.zxid
    watching.close()
    writer.make(f"{root}/a")
    writer.must(wire.SET_DATA, f"{root}/a", b"x", -1)
    writer.must(wire.SET_DATA, root, b"x", -1)
    writer.must(wire.DELETE, f"{root}/a", -1)
    back = watching.again(address(cluster, 3))
    assert back.session == watching.session
    return back, seen


def test_persistent_watches_are_told_what_they_missed(cluster, pair):
    watching, writer, root = pair
    watching.must(wire.ADD_WATCH, root, PERSISTENT)
    back, seen = away(cluster, watching, writer, root)
    back.must(wire.SET_WATCHES2, seen, [], [], [], [root], [])
    assert back.seen() == [(CHILDREN, root), (CHANGED, root), (CHILDREN, root)]
    writer.must(wire.SET_DATA, root, b"x", -1)
    assert back.seen() == [(CHANGED, root)], "and the watch is there again"
    back.close()


def test_recursive_watches_are_told_what_they_missed(cluster, pair):
    watching, writer, root = pair
    watching.must(wire.ADD_WATCH, root, RECURSIVE)
    back, seen = away(cluster, watching, writer, root)
    back.must(wire.SET_WATCHES2, seen, [], [], [], [], [root])
    a = f"{root}/a"
    assert back.seen() == [(CREATED, a), (CHANGED, a), (CHANGED, root), (DELETED, a)]
    writer.make(a)
    assert back.seen() == [(CREATED, a)]
    back.close()


def test_one_time_watches_are_told_what_they_missed(cluster, pair):
    watching, writer, root = pair
    writer.make(f"{root}/gone")
    writer.make(f"{root}/same")
    watching.must(wire.SYNC, "/")
    writer.must(wire.DELETE, f"{root}/gone", -1)
    back, seen = away(cluster, watching, writer, root)
    assert seen > 0
    before = seen - 1
    back.must(wire.SET_WATCHES, before, [root, f"{root}/gone", f"{root}/same"], [f"{root}/a"], [root])
    assert sorted(back.seen()) == sorted([(CHANGED, root), (DELETED, f"{root}/gone"), (CHILDREN, root)])
    writer.must(wire.SET_DATA, f"{root}/same", b"x", -1)
    writer.make(f"{root}/a")
    assert back.seen() == [(CHANGED, f"{root}/same"), (CREATED, f"{root}/a")], "what fired nothing waits on"
    back.close()


def test_nothing_that_was_seen_is_told_again(cluster, pair):
    watching, writer, root = pair
    watching.must(wire.ADD_WATCH, root, RECURSIVE)
    writer.make(f"{root}/a")
    assert watching.seen() == [(CREATED, f"{root}/a")]
    back = watching.again(address(cluster, 4))
    back.must(wire.SET_WATCHES2, watching.zxid, [], [], [], [], [root])
    assert back.seen() == []
    back.close()
