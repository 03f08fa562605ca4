"""kazoo's operations, unchanged, against a running cluster."""

import queue
import threading

import pytest
from kazoo.exceptions import (
    BadVersionError,
    InvalidACLError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.states import EventType
from kazoo.security import make_acl, make_digest_acl

WAIT = 10


def test_create_read_write_delete(client, root):
    path, stat = client.create(f"{root}/a", b"one", include_data=True)
    assert path == f"{root}/a" and stat.version == 0 and stat.dataLength == 3
    assert client.get(path)[0] == b"one"
    stat = client.set(path, b"two", version=0)
    assert stat.version == 1 and stat.mzxid > stat.czxid
    with pytest.raises(BadVersionError):
        client.set(path, b"three", version=0)
    with pytest.raises(NodeExistsError):
        client.create(path)
    with pytest.raises(NotEmptyError):
        client.delete(root)
    client.delete(path, version=1)
    assert client.exists(path) is None
    with pytest.raises(NoNodeError):
        client.get(path)


def test_every_node_reads_what_was_written(cluster, client, root):
    client.set(root, b"seen everywhere")
    for node in cluster.nodes:
        other = cluster.client(node["id"])
        other.sync(root)
        assert other.get(root)[0] == b"seen everywhere"
        other.stop()


def test_sequence_counts_every_child(client, root):
    assert client.create(f"{root}/s-", sequence=True).endswith("s-0000000000")
    assert client.create(f"{root}/s-", sequence=True).endswith("s-0000000001")
    client.create(f"{root}/plain")
    assert client.create(f"{root}/s-", sequence=True).endswith("s-0000000003")
    assert client.get(root)[1].cversion == 4


def test_ephemerals_end_with_their_session(cluster, client, root):
    other = cluster.client()
    other.create(f"{root}/e", ephemeral=True)
    gone = threading.Event()
    client.sync(root)
    assert client.exists(f"{root}/e", watch=lambda event: gone.set())
    other.stop()
    assert gone.wait(WAIT)
    assert client.exists(f"{root}/e") is None


def test_a_watch_fires_once(client, root):
    """kazoo calls back from a thread of its own, in the order of the events; a second watch says when all have been seen."""
    events = queue.Queue()
    client.get(root, watch=events.put)
    client.set(root, b"1")
    assert events.get(timeout=WAIT).type == EventType.CHANGED
    client.set(root, b"2")
    client.get_children(root, watch=events.put)
    client.create(f"{root}/child")
    assert events.get(timeout=WAIT).type == EventType.CHILD
    assert events.empty()


def test_child_watch(client, root):
    fired = threading.Event()
    client.get_children(root, watch=lambda event: fired.set())
    client.create(f"{root}/child")
    assert fired.wait(WAIT)


def test_transaction(client, root):
    transaction = client.transaction()
    transaction.create(f"{root}/t", b"1")
    transaction.set_data(f"{root}/t", b"2")
    transaction.check(f"{root}/t", version=1)
    results = transaction.commit()
    assert results[0] == f"{root}/t" and results[1].version == 1 and results[2] is True


def test_a_transaction_that_fails_changes_nothing(client, root):
    transaction = client.transaction()
    transaction.create(f"{root}/t")
    transaction.delete(f"{root}/missing")
    transaction.create(f"{root}/u")
    results = transaction.commit()
    assert [type(result) for result in results] == [RolledBackError, NoNodeError, RuntimeInconsistency]
    assert client.get_children(root) == []


def test_digest_acl(cluster, client, root):
    acl = make_digest_acl("user", "secret", all=True)
    client.add_auth("digest", "user:secret")
    client.create(f"{root}/private", b"mine", acl=[acl])
    stranger = cluster.client()
    stranger.sync(root)
    with pytest.raises(NoAuthError):
        stranger.get(f"{root}/private")
    stranger.add_auth("digest", "user:secret")
    assert stranger.get(f"{root}/private")[0] == b"mine"
    stranger.stop()
    with pytest.raises(InvalidACLError):
        client.create(f"{root}/none", acl=[make_acl("no-such-scheme", "x", all=True)])


def test_a_megabyte_passes(client, root):
    data = bytes(range(256)) * 3900
    client.set(root, data)
    assert client.get(root)[0] == data


def test_many_at_once(client, root):
    pending = [client.create_async(f"{root}/n{number}", b"x" * 100) for number in range(2000)]
    for result in pending:
        result.get(timeout=30)
    assert len(client.get_children(root)) == 2000
