"""One sequence on one server, and what two runs of it must have in common.

Each step is followed by a `sync` on every session: what the step told anybody has arrived before the next one begins.
"""

import bisect
import itertools

import wire
from sequence import SESSIONS

NO_WATCHER = -121
RUNS = itertools.count(1)


class Run:
    """A sequence on a server: `record` holds, for each step and session, the frames that came."""

    def __init__(self, server, root):
        self.server, self.root = server, root
        self.sessions, self.places = {}, itertools.count()
        self.connections = [self.connect(index) for index in range(SESSIONS)]
        self.ask(0, [(wire.CREATE, "$", b"", wire.OPEN, 0)])
        self.barrier(lambda index, frames: None)

    def connect(self, index, before=None):
        # A session that comes back does so at another node.
        address = self.server.addresses[next(self.places) % len(self.server.addresses)]
        if before is None:
            connection = wire.Connection(address)
        else:
            connection = wire.Connection(address, before.session, before.password, before.zxid)
        self.sessions.setdefault(connection.session, len(self.sessions))
        return connection

    def place(self, value):
        """A request with its `$` replaced."""
        if isinstance(value, str):
            return self.root + value[1:] if value.startswith("$") else value
        return type(value)(map(self.place, value)) if isinstance(value, (list, tuple)) else value

    def ask(self, index, requests):
        connection, frames = self.connections[index], []
        sent = [(connection.send(*self.place(request)), request[0]) for request in requests]
        for xid, op in sent:
            frames += connection.receive(xid, op)
        return frames

    def barrier(self, tell):
        for index, connection in enumerate(self.connections):
            if not isinstance(connection, Dropped):
                tell(index, self.ask(index, [(wire.SYNC, "/")]))

    def step(self, step):
        """The frames of all sessions, by session."""
        kind, index, *rest = step
        found = {other: [] for other in range(SESSIONS)}
        dropped = isinstance(self.connections[index], Dropped)
        if kind == "resume" and dropped:
            before = self.connections[index].connection
            connection = self.connections[index] = self.connect(index, before)
            found[index].append({"timeout_ms": connection.timeout_ms, "same": connection.session == before.session})
            data, exist, child, persistent, recursive = rest[0]
            frames = self.ask(index, [(wire.SET_WATCHES, before.zxid, data, exist, child)])
            # Difference: missed events of persistent watches are told. From now on there is nothing to miss.
            frames += self.ask(index, [(wire.SET_WATCHES2, connection.zxid, [], [], [], persistent, recursive)])
            found[index] += frames
        elif dropped or kind == "resume":
            return found
        elif kind == "ask":
            found[index] += self.ask(index, rest[0])
        elif kind == "drop":
            self.connections[index].close()
            self.connections[index] = Dropped(self.connections[index])
        elif kind == "refuse":
            found[index] += self.ask(index, [(wire.AUTH, "nonsense", b"x")])
            found[index].append({"closed": self.is_closed(index)})
            self.connections[index].close()
            self.connections[index] = self.connect(index, self.connections[index])
        elif kind == "close":
            found[index] += self.ask(index, [(wire.CLOSE_SESSION,)])
            found[index].append({"closed": self.is_closed(index)})
            self.connections[index].close()
            self.connections[index] = self.connect(index)
        self.barrier(lambda other, frames: found[other].extend(frames))
        if kind == "close":
            # The ephemerals of a session go in the order of a hash table.
            order = lambda frame: (0, frame["path"], frame["event"]) if "event" in frame else (1,)
            found = {other: sorted(frames, key=order) for other, frames in found.items()}
        return found

    def is_closed(self, index):
        try:
            self.connections[index].packet()
        except wire.Closed:
            return True
        return False

    def end(self):
        for index, connection in enumerate(self.connections):
            if isinstance(connection, Dropped):
                connection = self.connect(index, connection.connection)
            connection.receive(connection.send(wire.CLOSE_SESSION), wire.CLOSE_SESSION)
            connection.close()


class Dropped:
    """A session without a connection."""

    def __init__(self, connection):
        self.connection = connection


class Pairs:
    """Which zxid of the one server is which of the other; both grow together."""

    def __init__(self):
        self.left, self.right = [0], [0]

    def pair(self, left, right):
        """True if the two can be, or are, the same transaction."""
        at = bisect.bisect_left(self.left, left)
        if at < len(self.left) and self.left[at] == left:
            return self.right[at] == right
        if bisect.bisect_left(self.right, right) != at or (at < len(self.right) and self.right[at] == right):
            return False
        self.left.insert(at, left)
        self.right.insert(at, right)
        return True

    def same_floor(self, left, right):
        """True if neither has seen a transaction of the pairs that the other has not."""
        return bisect.bisect_right(self.left, left) == bisect.bisect_right(self.right, right)


class Comparison:
    """Two runs of one sequence, step by step."""

    def __init__(self, real, ours):
        root = f"/run-{next(RUNS)}"
        self.real, self.ours = Run(real, root), Run(ours, root)
        self.pairs = Pairs()

    def step(self, step):
        """What differs: nothing, or both answers."""
        real, ours = self.real.step(step), self.ours.step(step)
        for index in range(SESSIONS):
            if not self.same_frames(real[index], ours[index]):
                return f"session {index}\n  ZooKeeper: {real[index]}\n  Verity:    {ours[index]}"
        return None

    def end(self):
        self.real.end()
        self.ours.end()

    def same_frames(self, real, ours):
        return len(real) == len(ours) and all(self.same_frame(*both) for both in zip(real, ours))

    def same_frame(self, real, ours):
        # The zxid of a write counts first: the stat behind it may name it.
        writes = (wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER, wire.DELETE, wire.SET_DATA, wire.SET_ACL)
        if real.get("op") != ours.get("op"):
            return False
        if real.get("op") in (*writes, wire.CLOSE_SESSION) and real["err"] == ours["err"] == 0:
            if not self.pairs.pair(real["head_zxid"], ours["head_zxid"]):
                return False
        if real.get("op") == wire.CHECK_WATCHES and (real["err"], ours["err"]) == (0, NO_WATCHER):
            # Difference: ZooKeeper 3.8 finds the watches of all sessions, Verity those of the one that asks.
            return True
        return self.same(real, ours, None)

    def same(self, real, ours, key):
        if isinstance(real, dict) and isinstance(ours, dict):
            real, ours = plain(real), plain(ours)
            return real.keys() == ours.keys() and all(self.same(real[name], ours[name], name) for name in real)
        if isinstance(real, (list, tuple)) and isinstance(ours, (list, tuple)):
            return len(real) == len(ours) and all(self.same(*both, key) for both in zip(real, ours))
        if key in ("ctime", "mtime"):
            return True
        if key in ("czxid", "mzxid", "pzxid"):
            return self.pairs.pair(real, ours)
        if key == "head_zxid":
            return self.pairs.same_floor(real, ours)
        if key == "owner":
            return self.real.sessions.get(real, real) == self.ours.sessions.get(ours, ours)
        return real == ours


def plain(frame):
    """A frame or a multi's result without what differs on purpose."""
    if frame.get("op") == wire.SYNC and "head_zxid" in frame:
        # Difference: a `sync` is a barrier, and its zxid that of the barrier.
        return {name: value for name, value in frame.items() if name != "head_zxid"}
    if "ids" in frame:
        # Difference: whoAmI shows no hashes. ZooKeeper's order is that of a hash table.
        return {**frame, "ids": sorted((scheme, user.split(":")[0]) for scheme, user in frame["ids"])}
    if frame.get("op") in (wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER) and "head_zxid" not in frame:
        # Difference: create2 inside a multi answers its stat.
        return {"err": frame["err"], "path": frame["path"]}
    return frame
