"""Every switch of [zookeeper] that a client can notice, noticed by a client."""

import json
import os
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from conftest import Cluster
from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    BadArgumentsError,
    ConnectionLoss,
    EphemeralOnLocalSessionError,
    NoAuthError,
    OperationTimeoutError,
    QuotaExceededError,
    ReconfigDisabledError,
    SessionExpiredError,
    UnimplementedError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

# What `printf super:test | openssl sha1 -binary | base64` says.
SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
QUOTA = b"count=2,bytes=-1=;byteHardLimit=-1;countHardLimit=2"
NOBODY = [make_acl("digest", "nobody:AAAAAAAAAAAAAAAAAAAAAAAAAAA=", all=True)]

MANY = f"""
[zookeeper]
tick_time_ms = 200
min_session_timeout_ms = 500
max_session_timeout_ms = 1500
max_packet_bytes = 4096
max_connections_per_address = 5
words = ["ruok", "srvr", "srst"]
super_digest = "{SUPER}"
super_sasl_user = "root"
extended_types = true
enforce_quota = true
reconfig_enabled = true
admin_hosts = ["console.example"]
[zookeeper.sasl_users]
jaasuser = "jaas_password"
root = "root_password"
"""


def start(tmp_path, text, *arguments):
    file = tmp_path / "verity.toml"
    file.write_text(text)
    return Cluster(tmp_path / "data", "--config", str(file), *arguments).start()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    running = start(tmp_path_factory.mktemp("many"), MANY, "--nodes", "1")
    yield running
    running.stop()


@pytest.fixture
def plain(many):
    client = many.client()
    yield client
    client.stop()
    client.close()


def word(address, text):
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(text.encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def command(node, name):
    with urllib.request.urlopen(f"http://{node['endpoints']['zookeeper-admin']}/commands/{name}", timeout=5) as answer:
        return json.load(answer)


def eventually(condition, wait=15):
    deadline = time.monotonic() + wait
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


class CreateTtl:
    """createTTL, which kazoo does not have."""

    type = 21

    def __init__(self, path, ttl):
        self.path, self.ttl = path.encode(), ttl

    def serialize(self):
        acl = b"".join(struct.pack(">i", a.perms) + text(a.id.scheme) + text(a.id.id) for a in OPEN_ACL_UNSAFE)
        head = struct.pack(">i", len(self.path)) + self.path + struct.pack(">i", 0)
        return head + struct.pack(">i", 1) + acl + struct.pack(">iq", 5, self.ttl)

    @staticmethod
    def deserialize(data, offset):
        (size,) = struct.unpack_from(">i", data, offset)
        return data[offset + 4 : offset + 4 + size].decode()


def text(value):
    return struct.pack(">i", len(value)) + value.encode()


def create_ttl(client, path, ttl):
    result = client.handler.async_result()
    client._call(CreateTtl(path, ttl), result)
    return result.get(timeout=10)


def timeout_of(node, client):
    rows = command(node, "connections")["connections"]
    return next(row["session_timeout"] for row in rows if row.get("session_id") == client.client_id[0])


def test_session_timeouts(many, plain):
    assert timeout_of(many.nodes[0], plain) == 1500, "10 s were asked for"
    short = many.client(timeout=0.1)
    assert timeout_of(many.nodes[0], short) == 500
    short.stop()
    configuration = command(many.nodes[0], "configuration")
    assert configuration["tick_time"] == 200 and configuration["max_client_cnxns"] == 5


def test_tls_of_the_embedded_cluster(tmp_path):
    for name in ("ca", "tls"):
        made = ["ca"] if name == "ca" else ["node", "--id", "1", "--ca", str(tmp_path / "ca")]
        subprocess.run([os.environ["VERITY"], "cert", *made, "--dir", str(tmp_path / name)], check=True)
    lines = f'[zookeeper]\ntls_dir = "{tmp_path}/tls"\ntls_port = 2281\nclient_certificates = "none"\n'
    running = start(tmp_path, lines, "--nodes", "1")
    door = running.nodes[0]["endpoints"]["zookeeper+tls"]
    assert door == f"127.0.0.1:{2281 + running.offset}"
    client = KazooClient(hosts=door, use_ssl=True, ca=str(tmp_path / "ca" / "ca.pem"))
    client.start(timeout=15)
    assert client.exists("/")
    client.stop()
    running.stop()


def test_packet_size(cluster, plain):
    plain.create("/fits", b"x" * 3000)
    with pytest.raises(BadArgumentsError):
        plain.create("/large", b"x" * 5000)
    usual = cluster.client()
    usual.create("/large", b"x" * 5000)
    usual.stop()


def test_connections_of_one_address(many, plain):
    host, port = many.nodes[0]["endpoints"]["zookeeper"].split(":")
    opened = [socket.create_connection((host, int(port)), timeout=5) for _ in range(6)]
    assert opened[-1].recv(1) == b"", "the connections before it are as many as may be"
    for connection in opened:
        connection.close()


def test_words(cluster, many):
    allowed, usual = many.nodes[0]["endpoints"]["zookeeper"], cluster.nodes[0]["endpoints"]["zookeeper"]
    assert word(allowed, "ruok") == "imok"
    assert word(allowed, "srst") == "Server stats reset.\n"
    assert word(allowed, "mntr") == "mntr is not executed because it is not in the whitelist.\n"
    assert "zk_server_state" in word(usual, "mntr")
    assert word(usual, "srst") == "srst is not executed because it is not in the whitelist.\n"


def test_super_digest(many, plain):
    plain.create("/of-nobody", b"secret", acl=NOBODY)
    with pytest.raises(NoAuthError):
        plain.get("/of-nobody")
    plain.add_auth("digest", "super:wrong")
    with pytest.raises(NoAuthError):
        plain.get("/of-nobody")
    plain.add_auth("digest", "super:test")
    assert plain.get("/of-nobody")[0] == b"secret"


def sasl(user, password):
    return {"sasl_options": {"mechanism": "DIGEST-MD5", "username": user, "password": password}}


def test_sasl_users(many, plain):
    user = many.client(**sasl("jaasuser", "jaas_password"))
    user.create("/of-user", b"mine", acl=[make_acl("sasl", "jaasuser", all=True)])
    with pytest.raises(NoAuthError):
        plain.get("/of-user")
    assert user.get("/of-user")[0] == b"mine"
    user.stop()
    root = many.client(**sasl("root", "root_password"))
    assert root.get("/of-user")[0] == b"mine", "root is the super user"
    root.stop()
    # kazoo may or may not have told its caller that it is connected by the time that it is refused.
    with pytest.raises((AuthFailedError, KazooTimeoutError)):
        many.client(**sasl("jaasuser", "wrong")).get("/")


def test_extended_types(cluster, plain):
    assert create_ttl(plain, "/ttl", 60_000) == "/ttl"
    usual = cluster.client()
    with pytest.raises(UnimplementedError):
        create_ttl(usual, "/ttl", 60_000)
    usual.stop()


def test_quotas_refuse(plain):
    plain.create("/limited")
    # The node itself counts.
    plain.create("/zookeeper/quota/limited/zookeeper_limits", QUOTA, makepath=True)
    plain.create("/zookeeper/quota/limited/zookeeper_stats", b"count=1,bytes=0")
    plain.create("/limited/one")
    with pytest.raises(QuotaExceededError):
        plain.create("/limited/two")


def test_admin_server(cluster, tmp_path):
    for node in cluster.nodes:
        stats = command(node, "stats")
        assert stats["error"] is None and stats["server_stats"]["server_state"] in ("leader", "follower", "observer")
    without = Cluster(tmp_path / "data", "--nodes", "1", "--zookeeper-admin-port", "0").start()
    assert "zookeeper-admin" not in without.nodes[0]["endpoints"]
    without.stop()


def test_names_of_the_admin_server(cluster, many):
    def asked(running):
        url = f"http://{running.nodes[0]['endpoints']['zookeeper-admin']}/commands/ruok"
        request = urllib.request.Request(url, headers={"Host": "console.example"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)["error"]

    assert asked(many) is None
    with pytest.raises(urllib.error.HTTPError):
        asked(cluster)


def test_reconfig_is_off_until_it_is_on(cluster, plain):
    wish = {"joining": "server.9=127.0.0.1:1:2:observer;127.0.0.1:3", "leaving": None, "new_members": None}
    usual = cluster.client()
    with pytest.raises(ReconfigDisabledError):
        usual.reconfig(**wish)
    usual.stop()
    with pytest.raises(NoAuthError):
        plain.reconfig(**wish)


def test_access_lists_can_be_skipped(tmp_path):
    running = start(tmp_path, "[zookeeper]\nskip_acl = true\n", "--nodes", "1")
    client = running.client()
    client.create("/of-nobody", b"secret", acl=NOBODY)
    assert client.get("/of-nobody")[0] == b"secret"
    client.stop()
    running.stop()


def test_who_votes_and_who_observes(cluster):
    def modes():
        answers = [word(node["endpoints"]["zookeeper"], "srvr") for node in cluster.nodes]
        return [answer.partition("Mode: ")[2].split()[0] for answer in answers if "Mode: " in answer]

    eventually(lambda: sorted(modes()) == ["follower", "follower", "leader", "observer"])
    assert modes()[3] == "observer"
    assert "zk_server_state\tobserver" in word(cluster.nodes[3]["endpoints"]["zookeeper"], "mntr")


def test_conf_says_where(cluster):
    node = cluster.nodes[1]
    lines = dict(line.split("=", 1) for line in word(node["endpoints"]["zookeeper"], "conf").splitlines())
    assert lines["clientPort"] == node["endpoints"]["zookeeper"].split(":")[1]
    assert lines["admin.serverPort"] == node["endpoints"]["zookeeper-admin"].split(":")[1]
    assert lines["serverId"] == "2" and lines["dataDir"].endswith("node-2")


@pytest.mark.parametrize("linearizable", [False, True])
def test_linearizable_reads(tmp_path, linearizable):
    running = Cluster(tmp_path / "data", *(["--linearizable-reads"] if linearizable else [])).start()
    leader = running.leader()
    stale = next(node for node in (1, 2, 3) if node != leader)
    reader, writer = running.client(stale), running.client(leader)
    writer.create("/x", b"old")
    reader.sync("/x")
    running.fault("partition", **{"from": stale})
    writer.set("/x", b"new")
    read = reader.get_async("/x")
    if linearizable:
        running.fault("heal")
        try:
            assert read.get(timeout=20)[0] == b"new"
        except (ConnectionLoss, SessionExpiredError, OperationTimeoutError):
            pass  # an answer that cannot be given is not given
    else:
        assert read.get(timeout=20)[0] == b"old", "a node that is cut off reads what it has"
    running.stop()


@pytest.mark.parametrize("allowed", [True, False])
def test_read_only_mode(tmp_path, allowed):
    lines = f"[zookeeper]\ntick_time_ms = 300\nread_only_mode = {str(allowed).lower()}\n"
    running = start(tmp_path, lines)
    client = running.client()
    client.create("/x", b"kept")
    client.stop()
    for node in (1, 2, 3):
        running.fault("partition", **{"from": node})
    reader = KazooClient(hosts=running.hosts(1), timeout=10, read_only=True)
    states = []
    reader.add_listener(lambda state: states.append((state, reader.client_state)))
    if allowed:
        reader.start(timeout=15)
        eventually(lambda: (KazooState.CONNECTED, KeeperState.CONNECTED_RO) in states)
        assert reader.get("/x")[0] == b"kept"
    else:
        with pytest.raises(KazooTimeoutError):
            reader.start(timeout=4)
    reader.stop()
    reader.close()
    running.stop()


@pytest.mark.parametrize("upgrade", [False, True])
def test_local_sessions(tmp_path, upgrade):
    lines = f"[zookeeper]\nlocal_sessions = true\nupgrade_local_sessions = {str(upgrade).lower()}\n"
    running = start(tmp_path, lines, "--nodes", "1")
    client = running.client()
    assert client.create("/plain") == "/plain"
    monitor = command(running.nodes[0], "monitor")
    assert (monitor["local_sessions"], monitor["global_sessions"]) == (1, 0)
    if upgrade:
        client.create("/mine", ephemeral=True)
        monitor = command(running.nodes[0], "monitor")
        assert (monitor["local_sessions"], monitor["global_sessions"]) == (0, 1)
    else:
        with pytest.raises(EphemeralOnLocalSessionError):
            client.create("/mine", ephemeral=True)
    client.stop()
    running.stop()
