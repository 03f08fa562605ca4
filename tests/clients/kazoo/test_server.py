"""`verity server`, one node a process: TLS, certificates that change, telemetry, logs."""

import http.server
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.request

import pytest
from clusters import free_offset
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.security import make_acl


def verity(*arguments):
    return subprocess.run([os.environ["VERITY"], *map(str, arguments)], capture_output=True, text=True, check=True)


class Node:
    """A node that is a cluster of its own."""

    def __init__(self, folder, sections="", arguments=()):
        offset = free_offset()
        self.port, self.tls_port = 2181 + offset, 2182 + offset
        self.admin, self.peer_port = f"127.0.0.1:{7070 + offset}", 7071 + offset
        self.config = folder / "verity.toml"
        self.config.write_text(
            f'cluster = "test"\nvoters = [1]\nsystems = ["zookeeper"]\n[node]\nid = 1\ndata_dir = "{folder}/data"\n'
            f'peer = "127.0.0.1:{7071 + offset}"\nadmin = "127.0.0.1:{7070 + offset}"\n'
            f'[peers]\n1 = "127.0.0.1:{7071 + offset}"\n' + sections + self.zookeeper(folder, offset)
        )
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            command = [os.environ["VERITY"], *arguments, "server", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout.readline(), self.log.read_text()

    def zookeeper(self, folder, offset):
        return f"[zookeeper]\nport = {self.port}\ntls_port = {self.tls_port}\nadmin_port = {8080 + offset}\n"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0


class TlsNode(Node):
    """Its clients' certificates come from an authority of its own."""

    def __init__(self, folder, asked, more=""):
        self.tls, self.asked, self.more = folder / "tls", asked, more
        verity("cert", "ca", "--dir", folder / "ca")
        self.issue(folder)
        for name in ("alice", "root"):
            verity("cert", "client", "--name", name, "--ca", folder / "ca", "--dir", folder / name)
        super().__init__(folder)
        self.folder = folder

    def issue(self, folder):
        verity("cert", "node", "--id", 1, "--ca", folder / "ca", "--dir", self.tls)

    def zookeeper(self, folder, offset):
        lines = f'tls_dir = "{self.tls}"\nclient_certificates = "{self.asked}"\n{self.more}\n'
        return super().zookeeper(folder, offset) + lines

    def client(self, name=None, timeout=15):
        files = {"ca": str(self.tls / "ca.pem")}
        if name:
            folder = self.folder / name
            files |= {"certfile": str(folder / "client.pem"), "keyfile": str(folder / "client.key")}
        client = KazooClient(hosts=f"127.0.0.1:{self.tls_port}", use_ssl=True, **files)
        client.start(timeout=timeout)
        return client

    def shown(self):
        return ssl.get_server_certificate(("127.0.0.1", self.tls_port), ca_certs=str(self.tls / "ca.pem"))


def eventually(condition, wait=15):
    deadline = time.monotonic() + wait
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_certificates_are_identities(tmp_path):
    node = TlsNode(tmp_path, "need", 'super_certificate = "CN=root"')
    alice = node.client("alice")
    alice.create("/hers", b"mine", acl=[make_acl("x509", "CN=alice", all=True)])
    assert alice.get("/hers")[0] == b"mine"
    plain = KazooClient(hosts=f"127.0.0.1:{node.port}")
    plain.start()
    with pytest.raises(NoAuthError):
        plain.get("/hers")
    root = node.client("root")
    assert root.get("/hers")[0] == b"mine"
    with pytest.raises(KazooTimeoutError):
        node.client(timeout=2)
    for client in (alice, plain, root):
        client.stop()
    node.stop()


def test_certificates_may_be_left_out(tmp_path):
    node = TlsNode(tmp_path, "want")
    nobody = node.client()
    nobody.create("/open")
    nobody.stop()
    node.stop()


def test_certificates_change_without_a_restart(tmp_path):
    node = TlsNode(tmp_path, "none")
    client, first = node.client(), node.shown()
    node.issue(tmp_path)
    eventually(lambda: node.shown() != first)
    (node.tls / "node.key").write_text("half a file")
    # The files are looked at when somebody connects.
    eventually(lambda: node.shown() and "the old certificates stay in use" in node.log.read_text())
    second = node.shown()
    assert second != first, "what cannot be read does not end what is there"
    assert client.exists("/") and client.connected, "open connections stay"
    client.stop()
    node.stop()


class Collector(http.server.ThreadingHTTPServer):
    """Keeps what it is sent."""

    def __init__(self):
        self.sent = []
        super().__init__(("127.0.0.1", 0), Take)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def of(self, path):
        return [(kind, body) for where, kind, body in list(self.sent) if where == path]


class Take(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.sent.append((self.path, self.headers["Content-Type"], body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_figures_go_to_a_collector(tmp_path):
    collector = Collector()
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    node = Node(tmp_path, f'[telemetry]\notlp_endpoint = "{endpoint}"\ninterval_s = 1\n')
    wanted = (b"verity.group_leads", b"verity.group_commits_applied_total", b"verity.log_sync_seconds_bucket",
              b"verity.request_seconds_count", b"zookeeper", b"service.name")  # fmt: skip
    eventually(lambda: any(all(word in body for word in wanted) for _, body in collector.of("/v1/metrics")))
    verity("status", "--admin", node.admin)
    node.stop()
    spans = b"".join(body for _, body in collector.of("/v1/traces"))
    assert all(name in spans for name in (b"start", b"role", b"admin", b"/api/status", b"stop", b"service.name"))
    assert {kind for _, kind, _ in collector.sent} == {"application/x-protobuf"}
    collector.shutdown()


def figures(node):
    with urllib.request.urlopen(f"http://{node.admin}/metrics", timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_what_happens_is_counted(tmp_path):
    node = Node(tmp_path)
    client = KazooClient(hosts=f"127.0.0.1:{node.port}")
    client.start()
    before = figures(node)
    for number in range(10):
        client.create(f"/{number}", b"x" * 100)
        client.get(f"/{number}")
    after = figures(node)
    more = {name: after[name] - before[name] for name in after}
    for kind in ("read", "write"):
        assert more[f'verity_request_seconds_count{{system="zookeeper",kind="{kind}"}}'] == 10
        assert more[f'verity_request_seconds_bucket{{system="zookeeper",kind="{kind}",le="+Inf"}}'] == 10
    assert more['verity_group_proposals_total{group="zookeeper"}'] >= 10
    assert more['verity_group_commits_applied_total{group="zookeeper"}'] >= 10
    assert more["verity_log_sync_seconds_count"] >= 10 and more["verity_log_sync_seconds_sum"] > 0
    assert more["verity_log_bytes_total"] >= 1000
    assert more['verity_client_bytes_total{direction="received"}'] >= 1000
    assert more['verity_client_bytes_total{direction="sent"}'] >= 1000
    assert after["verity_connections_opened_total"] >= 1
    client.stop()
    node.stop()


def test_refused_peers_are_told_now_and_then(tmp_path):
    node = Node(tmp_path)
    stranger = struct.pack(">4sH16sQQ", b"VRTY", 3, b"another cluster!", 2, 1)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", node.peer_port), timeout=5) as peer:
            peer.sendall(stranger)
            assert peer.recv(1) == b"", "nobody is let in"
    eventually(lambda: figures(node)["verity_peers_refused_total"] == 3)
    lines = [line for line in node.log.read_text().splitlines() if "a peer is refused" in line]
    assert len(lines) == 1 and "another cluster" in lines[0] and "node{id=1}" in lines[0]
    node.stop()


def test_a_collector_that_is_away_is_told_once(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        sections = f'[telemetry]\notlp_endpoint = "{endpoint}"\ninterval_s = 1\n'
        node = Node(tmp_path, sections, ["--log-format", "json"])
        eventually(lambda: node.log.read_text().count("figures cannot be sent") == 1)
        client = KazooClient(hosts=f"127.0.0.1:{node.port}")
        client.start()
        client.stop()
        node.stop()
    lines = [json.loads(line) for line in node.log.read_text().splitlines()]
    assert [line["fields"]["message"] for line in lines].count("figures cannot be sent") == 1


def test_logs_are_json_for_machines(tmp_path, monkeypatch):
    monkeypatch.setenv("RUST_LOG", "verity_node=info")
    node = Node(tmp_path, arguments=["--log-format", "json"])
    eventually(lambda: "role" in node.log.read_text())
    node.stop()
    for line in map(json.loads, node.log.read_text().splitlines()):
        assert {"timestamp", "level", "target", "fields", "span"} <= line.keys()
        assert line["span"] == {"name": "node", "id": "1"}, "each line says whose it is"
