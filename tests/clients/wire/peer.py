"""A client that says anything: a connection of the oracle's, and a little comfort."""

import socket

import wire
from wire import OPEN, Closed, Connection, Reader, buffer, flag, i32, i64

PERSISTENT, RECURSIVE = 0, 1
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
CHILD_WATCHES, DATA_WATCHES, ANY_WATCHES = 1, 2, 3


def address(cluster, node=1):
    host, port = cluster.nodes[node - 1]["endpoints"]["zookeeper"].rsplit(":", 1)
    return host, int(port)


class Client(Connection):
    """Asks and takes answers; `events` keeps what came between, as pairs of kind and path."""

    def __init__(self, where, **options):
        super().__init__(where, **options)
        self.events = []

    def ask(self, op, *args):
        """The reply; the events in front of it are kept."""
        *events, reply = self.receive(self.send(op, *args), op)
        self.events += [(event["event"], event["path"]) for event in events]
        return reply

    def must(self, op, *args):
        reply = self.ask(op, *args)
        assert reply["err"] == 0, (op, args, reply)
        return reply

    def make(self, path, mode=0):
        return self.must(wire.CREATE2, path, b"", OPEN, mode)

    def raw(self, xid, op, body):
        """A request of any number and body: the error of its reply, whose xid is the same."""
        self.frame(i32(xid) + i32(op) + body)
        reader = Reader(self.packet())
        got, _, err = reader.take("i"), reader.take("q"), reader.take("i")
        assert got == xid, (got, xid)
        return err

    def seen(self):
        """The events so far. What this node was told before now has arrived."""
        self.must(wire.SYNC, "/")
        told, self.events = self.events, []
        return told

    def is_closed(self):
        self.socket.settimeout(20)
        try:
            self.packet()
        except Closed:
            return True
        return False

    def again(self, where):
        """The same session, on a new connection."""
        self.close()
        return Client(where, session=self.session, password=self.password, zxid=self.zxid)


def hello(where, session=0, password=bytes(16), zxid=0, timeout_ms=10_000, tail=flag(False)):
    """A connect by hand: the answer's timeout, session and password; `Closed` if there is none."""
    with socket.create_connection(where, timeout=30) as raw:
        body = i32(0) + i64(zxid) + i32(timeout_ms) + i64(session) + buffer(password) + tail
        raw.sendall(buffer(body))
        connection = Connection.__new__(Connection)
        connection.socket = raw
        reader = Reader(connection.packet())
        assert reader.take("i") == 0
        answer = (reader.take("i"), reader.take("q"), reader.buffer())
        assert len(reader.raw) - reader.at == len(tail), "a client that says whether it reads only is told so"
        return answer
