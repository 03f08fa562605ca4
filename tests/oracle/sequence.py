"""Sequences of steps, drawn from a seed alone: no step depends on an answer, so any part of one is a sequence too.

A path that begins with `$` lies below the root of its run. What is left out, because the servers differ there on
purpose, is listed in `docs/compat/zookeeper.md`; each such place is marked `Difference:`.
"""

import random

from wire import (
    ADD_WATCH, CHECK, CHECK_WATCHES, CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL, DELETE, EXISTS, GET_ACL,
    GET_ALL_CHILDREN_NUMBER, GET_CHILDREN, GET_CHILDREN2, GET_DATA, GET_EPHEMERALS, MULTI, MULTI_READ, OPEN,
    REMOVE_WATCHES, SET_ACL, SET_DATA, SYNC, WHO_AM_I, AUTH,
)

SESSIONS = 3
NAMES = ["a", "b"]
# Persistent watches go to these names alone, each to one kind.
PERSISTENT, RECURSIVE = "p", "r"
# Access lists other than the open one go to these alone.
SECRET = "s"
BAD_PATHS = ["", "a", "$/", "$//a", "$/./a", "$/a/..", "$/a\u0001", "$/a\u0000b", "/zookeeper"]
# user:password by DigestAuthenticationProvider.generateDigest, for `u:1`.
DIGEST_U = "u:+7K83PhyQ3ijGj0ADmljf0quVwQ="
ACCESS = [
    OPEN,
    [(1, "world", "anyone")],
    [(31, "auth", "")],
    [(31, "digest", DIGEST_U)],
    [(31, "digest", DIGEST_U), (1, "world", "anyone")],
    [(4, "world", "anyone")],
    [(31, "ip", "127.0.0.1")],
    [],
    [(31, "world", "nobody")],
    [(31, "nonsense", "x")],
    [(31, "ip", "not an address")],
]


class Sequence:
    """Draws steps."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def steps(self, count):
        return [self.step() for _ in range(count)]

    def step(self):
        session = self.random.randrange(SESSIONS)
        roll = self.random.random()
        if roll < 0.80:
            return ("ask", session, [self.request(session)])
        if roll < 0.90:
            requests = [self.request(session) for _ in range(self.random.randint(2, 6))]
            # Credentials overtake what waits, in both; when they arrive is a matter of luck.
            return ("ask", session, [request for request in requests if request[0] != AUTH])
        if roll < 0.92:
            return ("drop", session)
        if roll < 0.98:
            return ("resume", session, self.watch_lists(session))
        if roll < 0.99:
            return ("refuse", session)
        return ("close", session)

    def name(self):
        return self.random.choice([*NAMES, *NAMES, PERSISTENT, RECURSIVE, SECRET])

    def path(self):
        depth = self.random.choice([1] * 6 + [2, 2, 2, 3])
        return "$" + "".join("/" + self.name() for _ in range(depth))

    def any_path(self):
        roll = self.random.random()
        if roll < 0.03:
            return self.random.choice(BAD_PATHS)
        return "$" if roll < 0.10 else self.path()

    def access(self, path):
        return self.random.choice(ACCESS) if path.split("/")[-1] == SECRET else OPEN

    def version(self):
        return self.random.choice([-1] * 6 + [0, 0, 1, 2, -2])

    def data(self):
        return self.random.choice([b"", b"x", b"data", None, b"\0\xff" * 20])

    def watch(self, session, path):
        # Difference: watches of different kinds side by side on one path.
        return watch_kind(session, path) == "plain" and self.random.random() < 0.5

    def create(self, in_multi=False):
        path, op = self.any_path(), self.random.choice([CREATE, CREATE, CREATE2])
        modes = [0] * 10 + [1] * 4 + [2] * 2 + [3] * 2
        if not in_multi:
            # Difference: in a multi the opcode decides, and not the flags.
            modes += [4, 5, 9, -1]
        if self.random.random() < 0.06:
            return (CREATE_CONTAINER, path, self.data(), self.access(path), 4)
        return (op, path, self.data(), self.access(path), self.random.choice(modes))

    def write(self):
        path, roll = self.any_path(), self.random.random()
        if roll < 0.45:
            return self.create(in_multi=True)
        if roll < 0.65:
            return (SET_DATA, path, self.data(), self.version())
        return (self.random.choice([DELETE, DELETE, CHECK]), path, self.version())

    def request(self, session):
        draw, path = self.random.choice, self.any_path()
        kind = draw(
            ["create"] * 12 + ["delete"] * 4 + ["set"] * 6 + ["read"] * 16 + ["multi"] * 4 + ["reads"] * 2
            + ["watch"] * 3 + ["unwatch"] * 3 + ["acl"] * 4 + ["session"] * 3 + ["ttl"]
        )
        if kind == "create":
            return self.create()
        if kind == "delete":
            return (DELETE, path, self.version())
        if kind == "set":
            return (SET_DATA, path, self.data(), self.version())
        if kind == "read":
            return (draw([EXISTS, GET_DATA, GET_CHILDREN, GET_CHILDREN2]), path, self.watch(session, path))
        if kind == "multi":
            return (MULTI, [self.write() for _ in range(self.random.randint(0, 5))])
        if kind == "reads":
            parts = self.random.randint(0, 4)
            return (MULTI_READ, [(draw([GET_DATA, GET_CHILDREN]), self.any_path(), False) for _ in range(parts)])
        if kind == "watch":
            mode = {"persistent": 0, "recursive": 1}.get(watch_kind(session, path))
            # Difference: as above; a path for plain watches gets no other.
            return (SYNC, path) if mode is None else (ADD_WATCH, path, mode)
        if kind == "unwatch":
            # Difference: a persistent watch is removed whole, or not at all.
            kinds = [1, 2, 3] if watch_kind(session, path) == "plain" else [3]
            return (draw([REMOVE_WATCHES, CHECK_WATCHES]), path, draw(kinds))
        if kind == "acl":
            return (GET_ACL, path) if draw([True, False]) else (SET_ACL, path, self.access(path), self.version())
        if kind == "ttl":
            return (CREATE_TTL, path, self.data(), OPEN, draw([5, 6]), 1000)
        return draw([(WHO_AM_I,), (GET_EPHEMERALS, "$"), (GET_ALL_CHILDREN_NUMBER, path), (SYNC, path),
                     (AUTH, "digest", draw(["u:1", "v:1"]))])

    def watch_lists(self, session):
        """Paths with plain watches for data, existence and children; with persistent and recursive ones."""
        # Difference: missed events on nodes that the caller can no longer read.
        paths = sorted({path for path in (self.path() for _ in range(12)) if SECRET not in path})
        of_kind = lambda kind: [path for path in paths if watch_kind(session, path) == kind]
        plain = ([], [], [])
        for path in of_kind("plain"):
            self.random.choice(plain).append(path)
        return (*plain, of_kind("persistent"), of_kind("recursive"))


def watch_kind(session, path):
    """Which kind of watch this session may put on this path."""
    last = path.split("/")[-1]
    if last == RECURSIVE or (path == "$" and session == SESSIONS - 1):
        return "recursive"
    return "persistent" if last == PERSISTENT else "plain"
