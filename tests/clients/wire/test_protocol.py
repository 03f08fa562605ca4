"""What no client library says: packets that are wrong, connects that must fail, and the operations that few clients know."""

import socket

import pytest
import wire
from peer import Client, address, hello
from wire import Closed, buffer, flag, i32, i64

UNIMPLEMENTED, BAD_ARGUMENTS, MARSHALLING, NO_NODE = -6, -8, -5, -101
TICK_MS = 2000


@pytest.fixture
def client(cluster):
    connected = Client(address(cluster))
    yield connected
    connected.close()


def is_well(client):
    return client.ask(wire.EXISTS, "/", False)["err"] == 0


@pytest.mark.parametrize("op", [-128, -10, -1, 10, 23, 66, 99, 108, 2**31 - 1])
def test_an_unknown_operation_is_refused_and_the_socket_stays(client, op):
    assert client.raw(7, op, buffer("/")) == UNIMPLEMENTED
    assert is_well(client)


@pytest.mark.parametrize("op", [wire.CREATE, wire.GET_DATA, wire.SET_DATA, wire.MULTI, wire.SET_WATCHES2, wire.ADD_WATCH])
@pytest.mark.parametrize("body", [b"", b"\0\0", i32(10) + b"/", i32(-2), i32(2**31 - 1)])
def test_a_body_that_is_none_is_refused_and_the_socket_stays(client, op, body):
    assert client.raw(7, op, body) == MARSHALLING
    assert is_well(client)


def test_a_packet_that_is_too_large_is_refused_and_the_socket_stays(client):
    large = buffer("/large") + buffer(bytes(2 << 20)) + i32(-1)
    assert client.raw(7, wire.SET_DATA, large) == BAD_ARGUMENTS
    assert is_well(client)
    path = "/largest"
    client.make(path)
    fits = bytes(0xF_FFFF - 8 - 4 - len(path) - 4 - 4)
    client.must(wire.SET_DATA, path, fits, -1)
    assert client.must(wire.GET_DATA, path, False)["data"] == fits
    assert client.ask(wire.SET_DATA, path, fits + b"x", -1)["err"] == BAD_ARGUMENTS


def test_a_negative_length_closes(client):
    client.socket.sendall(i32(-1))
    assert client.is_closed()


def test_packets_may_be_cut_anywhere(client):
    packet = buffer(i32(1) + i32(wire.EXISTS) + wire.body(wire.EXISTS, "/", False))
    for byte in packet:
        client.socket.sendall(bytes([byte]))
    frames = client.receive(1, wire.EXISTS)
    assert frames[0]["err"] == 0


def test_many_packets_at_once_are_answered_in_order(client):
    client.make("/many")
    sent = []
    together = b""
    for number in range(3000):
        client.xid += 1
        op, args = [(wire.SET_DATA, ("/many", b"%d" % number, -1)), (wire.GET_DATA, ("/many", False))][number % 2]
        together += buffer(i32(client.xid) + i32(op) + wire.body(op, *args))
        sent.append((client.xid, op, number))
    client.socket.sendall(together)
    for xid, op, number in sent:
        reply = client.receive(xid, op)[-1]
        if op == wire.GET_DATA:
            assert reply["data"] == b"%d" % (number - 1)


def test_a_wrong_password_opens_nothing(cluster, client):
    timeout, session, _ = hello(address(cluster, 2), client.session, b"not the password")
    assert (timeout, session) == (0, 0)
    assert is_well(client), "and takes nothing from whoever has the session"


def test_a_session_that_is_not_there(cluster):
    timeout, session, _ = hello(address(cluster), 0x1234567, bytes(16))
    assert (timeout, session) == (0, 0)


def test_a_closed_session_stays_closed(cluster):
    client = Client(address(cluster))
    client.must(wire.CLOSE_SESSION)
    assert client.is_closed()
    timeout, session, _ = hello(address(cluster, 3), client.session, client.password)
    assert (timeout, session) == (0, 0)


def test_a_session_moves_and_its_old_connection_is_closed(cluster):
    client = Client(address(cluster, 1))
    client.make("/moves", 1)
    moved = Client(address(cluster, 2), session=client.session, password=client.password, zxid=client.zxid)
    assert moved.session == client.session
    assert client.is_closed()
    assert moved.must(wire.EXISTS, "/moves", False)["stat"]["owner"] == moved.session
    moved.must(wire.CLOSE_SESSION)
    moved.close()


def test_a_client_from_the_future_is_closed(cluster):
    with pytest.raises(Closed):
        hello(address(cluster), zxid=1 << 60)


def test_a_connect_without_the_read_only_flag(cluster):
    timeout, session, password = hello(address(cluster), tail=b"")
    assert session != 0 and len(password) == 16 and timeout == 10_000


@pytest.mark.parametrize(
    ("wish", "given"),
    [(-1, 2 * TICK_MS), (0, 2 * TICK_MS), (1, 2 * TICK_MS), (9_999, 9_999), (20 * TICK_MS, 20 * TICK_MS),
     (20 * TICK_MS + 1, 20 * TICK_MS), (2**31 - 1, 20 * TICK_MS)],
)
def test_timeouts_are_clamped(cluster, wish, given):
    timeout, session, _ = hello(address(cluster), timeout_ms=wish)
    assert (timeout, session != 0) == (given, True)


def test_a_connect_that_is_none_is_closed(cluster):
    for raw in (buffer(b"\0"), buffer(b"GET / HTTP/1.1\r\n"), i32(2**31 - 1) + bytes(64), i32(-5)):
        with socket.create_connection(address(cluster), timeout=20) as connection:
            connection.sendall(raw)
            try:
                assert connection.recv(64) == b""
            except ConnectionResetError:
                pass


def test_ephemerals_are_listed_by_prefix(client):
    for path, mode in (("/list", 0), ("/list/b", 1), ("/list/a", 1), ("/list/plain", 0), ("/listed", 1)):
        client.make(path, mode)
    assert client.must(wire.GET_EPHEMERALS, "/list/")["names"] == ["/list/a", "/list/b"]
    assert client.must(wire.GET_EPHEMERALS, "/")["names"] == ["/list/a", "/list/b", "/listed"]
    assert client.must(wire.GET_EPHEMERALS, "/nothing")["names"] == []
    client.must(wire.CLOSE_SESSION)


def test_all_children_are_counted(client):
    for path in ("/all", "/all/a", "/all/a/b", "/all/a/b/c", "/all/d"):
        client.make(path)
    assert client.must(wire.GET_ALL_CHILDREN_NUMBER, "/all")["count"] == 4
    assert client.must(wire.GET_ALL_CHILDREN_NUMBER, "/all/d")["count"] == 0
    assert client.ask(wire.GET_ALL_CHILDREN_NUMBER, "/none")["err"] == NO_NODE


def test_who_am_i(client):
    assert client.must(wire.WHO_AM_I)["ids"] == [("ip", "127.0.0.1")]
    client.must(wire.AUTH, "digest", b"user:secret")
    assert client.must(wire.WHO_AM_I)["ids"] == [("ip", "127.0.0.1"), ("digest", "user")], "and not the hash"


def test_an_auth_is_answered_with_its_own_xid(client):
    assert client.raw(23, wire.AUTH, wire.body(wire.AUTH, "digest", b"user:secret")) == 0


def test_an_auth_that_is_unknown_closes(client):
    assert client.ask(wire.AUTH, "nonsense", b"x")["err"] == -115
    assert client.is_closed()


def test_pings_are_answered_ahead_of_what_waits(cluster):
    client = Client(address(cluster))
    client.frame(i32(-2) + i32(11))
    reader = wire.Reader(client.packet())
    assert (reader.take("i"), reader.take("q") >= 0, reader.take("i")) == (-2, True, 0)
    client.close()


def test_a_check_outside_of_a_multi_is_answered(client):
    client.make("/check")
    assert client.must(wire.CHECK, "/check", 0)
    assert client.ask(wire.CHECK, "/check", 4)["err"] == -103


@pytest.mark.parametrize("word", [b"ruok", b"srvr", b"isro", b"mntr", b"crst"])
def test_words(cluster, word):
    with socket.create_connection(address(cluster), timeout=20) as connection:
        connection.sendall(word)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    wanted = {b"ruok": b"imok", b"srvr": b"Zookeeper version: 3.8.", b"isro": b"rw", b"mntr": b"zk_version\t"}
    assert answer.startswith(wanted.get(word, b"crst is not executed because it is not in the whitelist.")), answer


def test_a_session_that_says_nothing_expires(cluster):
    client = Client(address(cluster), timeout_ms=1)
    watching = Client(address(cluster, 2))
    client.make("/silent", 1)
    watching.must(wire.SYNC, "/")
    watching.must(wire.EXISTS, "/silent", True)
    watching.socket.settimeout(20)
    reader = wire.Reader(watching.packet())
    assert (reader.take("i"), reader.take("q"), reader.take("i")) [0] == wire.XID_EVENT
    assert (reader.take("i"), reader.take("i"), reader.text()) == (2, 3, "/silent")
    assert client.is_closed()
    watching.close()
