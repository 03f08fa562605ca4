"""ZooKeeper's wire protocol by hand: enough to say anything, right or wrong, and to read every answer."""

import socket
import struct

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN, SYNC = 1, 2, 3, 4, 5, 6, 7, 8, 9
GET_CHILDREN2, CHECK, MULTI, CREATE2, CHECK_WATCHES, REMOVE_WATCHES = 12, 13, 14, 15, 17, 18
CREATE_CONTAINER, CREATE_TTL, MULTI_READ, AUTH, SET_WATCHES = 19, 21, 22, 100, 101
GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER, SET_WATCHES2, ADD_WATCH, WHO_AM_I = 103, 104, 105, 106, 107
CLOSE_SESSION, ERROR = -11, -1

OPEN = [(31, "world", "anyone")]
XID_EVENT, XID_AUTH, XID_SET_WATCHES = -1, -4, -8
STAT = ("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "owner", "size", "children", "pzxid")


class Closed(Exception):
    """The server closed the connection."""


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def flag(value):
    return b"\1" if value else b"\0"


def buffer(value):
    if value is None:
        return i32(-1)
    raw = value.encode() if isinstance(value, str) else value
    return i32(len(raw)) + raw


def vector(values, encode):
    return i32(len(values)) + b"".join(map(encode, values))


def acl(entries):
    return vector(entries, lambda entry: i32(entry[0]) + buffer(entry[1]) + buffer(entry[2]))


def header(op, done, err):
    return i32(op) + flag(done) + i32(err)


def body(op, *args):
    """The body of a request. The arguments are those of the record, in its order."""
    if op in (CREATE, CREATE2, CREATE_CONTAINER):
        path, data, access, mode = args
        return buffer(path) + buffer(data) + acl(access) + i32(mode)
    if op == CREATE_TTL:
        path, data, access, mode, ttl = args
        return buffer(path) + buffer(data) + acl(access) + i32(mode) + i64(ttl)
    if op in (DELETE, CHECK, ADD_WATCH, REMOVE_WATCHES, CHECK_WATCHES):
        return buffer(args[0]) + i32(args[1])
    if op in (EXISTS, GET_DATA, GET_CHILDREN, GET_CHILDREN2):
        return buffer(args[0]) + flag(args[1])
    if op == SET_DATA:
        return buffer(args[0]) + buffer(args[1]) + i32(args[2])
    if op == SET_ACL:
        return buffer(args[0]) + acl(args[1]) + i32(args[2])
    if op in (GET_ACL, SYNC, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER):
        return buffer(args[0])
    if op in (MULTI, MULTI_READ):
        parts = (header(part[0], False, -1) + body(*part) for part in args[0])
        return b"".join(parts) + header(-1, True, -1)
    if op in (SET_WATCHES, SET_WATCHES2):
        return i64(args[0]) + b"".join(vector(paths, buffer) for paths in args[1:])
    if op == AUTH:
        return i32(0) + buffer(args[0]) + buffer(args[1])
    assert op in (WHO_AM_I, CLOSE_SESSION), op
    return b""


class Reader:
    def __init__(self, raw):
        self.raw = raw
        self.at = 0

    def take(self, form):
        (value,) = struct.unpack_from(">" + form, self.raw, self.at)
        self.at += struct.calcsize(">" + form)
        return value

    def buffer(self):
        size = self.take("i")
        if size < 0:
            return None
        value = self.raw[self.at : self.at + size]
        assert len(value) == size, "a buffer is cut short"
        self.at += size
        return value

    def text(self):
        value = self.buffer()
        return None if value is None else value.decode()

    def vector(self, decode):
        size = self.take("i")
        return None if size < 0 else [decode() for _ in range(size)]

    def stat(self):
        return dict(zip(STAT, struct.unpack(">qqqqiiiqiiq", self.raw[self.at : self.forward(68)])))

    def forward(self, size):
        self.at += size
        assert self.at <= len(self.raw), "a record is cut short"
        return self.at



def answer(op, reader):
    """The body of a successful reply, as a dictionary."""
    if op == CREATE:
        return {"path": reader.text()}
    if op in (CREATE2, CREATE_CONTAINER, CREATE_TTL):
        return {"path": reader.text(), "stat": reader.stat()}
    if op in (EXISTS, SET_DATA, SET_ACL):
        return {"stat": reader.stat()}
    if op == GET_DATA:
        return {"data": reader.buffer(), "stat": reader.stat()}
    if op == GET_ACL:
        entry = lambda: (reader.take("i"), reader.text(), reader.text())
        return {"acl": reader.vector(entry), "stat": reader.stat()}
    if op in (GET_CHILDREN, GET_EPHEMERALS):
        return {"names": sorted(reader.vector(reader.text))}
    if op == GET_CHILDREN2:
        return {"names": sorted(reader.vector(reader.text)), "stat": reader.stat()}
    if op == GET_ALL_CHILDREN_NUMBER:
        return {"count": reader.take("i")}
    if op == SYNC:
        return {"path": reader.text()}
    if op == WHO_AM_I:
        return {"ids": reader.vector(lambda: (reader.text(), reader.text()))}
    if op in (MULTI, MULTI_READ):
        return {"results": results(reader)}
    return {}


def results(reader):
    found = []
    while True:
        op, done, err = reader.take("i"), reader.take("?"), reader.take("i")
        if done:
            return found
        if op == ERROR:
            found.append({"op": op, "err": err, "code": reader.take("i")})
        else:
            found.append({"op": op, "err": err, **answer(op, reader)})


class Connection:
    """One socket, and the session that it serves."""

    def __init__(self, address, session=0, password=bytes(16), zxid=0, timeout_ms=40_000):
        self.socket = socket.create_connection(address, timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.xid = 0
        self.zxid = zxid
        self.frame(i32(0) + i64(zxid) + i32(timeout_ms) + i64(session) + buffer(password) + flag(False))
        reader = Reader(self.packet())
        assert reader.take("i") == 0
        self.timeout_ms, self.session, self.password = reader.take("i"), reader.take("q"), reader.buffer()

    def frame(self, raw):
        self.socket.sendall(buffer(raw))

    def exactly(self, size):
        raw = b""
        while len(raw) < size:
            try:
                part = self.socket.recv(size - len(raw))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed
            raw += part
        return raw

    def packet(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def send(self, op, *args):
        self.xid += 1
        xid = {AUTH: XID_AUTH, SET_WATCHES: XID_SET_WATCHES, SET_WATCHES2: XID_SET_WATCHES}.get(op, self.xid)
        self.frame(i32(xid) + i32(op) + body(op, *args))
        return xid

    def receive(self, xid, op):
        """Everything up to the reply to `xid`: events, then the reply."""
        frames = []
        while True:
            reader = Reader(self.packet())
            got, zxid, err = reader.take("i"), reader.take("q"), reader.take("i")
            if got == XID_EVENT:
                event = {"event": reader.take("i"), "state": reader.take("i"), "path": reader.text()}
                frames.append({**event, "zxid": zxid, "err": err})
                continue
            assert got == xid, f"the reply to {got} came where that to {xid} was due"
            if zxid > 0:
                assert zxid >= self.zxid, f"zxid went back from {self.zxid} to {zxid}"
                self.zxid = zxid
            found = answer(op, reader) if err == 0 or len(reader.raw) > reader.at else {}
            rest = reader.raw[reader.at :]
            return [*frames, {"op": op, "err": err, "head_zxid": zxid, "rest": rest, **found}]

    def close(self):
        self.socket.close()
