"""`verity up` in a process of its own: started from the binary in $VERITY, ended by its own process id."""

import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request

# Of the tests' ledgers: their usual port, with an offset, may be that of a connection that goes out.
LEDGER_PORT = 9657
# Of the tests' Bitcoin nodes, for the same reason: calls, peers, subscribers.
BITCOIN_PORTS = (9743, 9744, 9745)
OFFSETS = itertools.count(10_000 + (os.getpid() % 40) * 50, 7)


class Cluster:
    """Four nodes on loopback, and what breaks them."""

    def __init__(self, data_dir, *arguments, only="zookeeper", offset=None):
        self.only = only
        self.data_dir = str(data_dir)
        self.arguments = arguments
        self.offset = offset or free_offset()
        self.process = None
        self.nodes = []

    def start(self):
        command = [os.environ["VERITY"], "up", "--json", "--only", self.only, "--data-dir", self.data_dir]
        command += ["--port-offset", str(self.offset), *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, f"{command} printed nothing; exit status {self.process.wait()}"
        self.nodes = json.loads(line)["nodes"]
        deadline = time.monotonic() + 30
        while not all(self.is_ready(node) for node in self.nodes):
            assert time.monotonic() < deadline, "the cluster is not ready after 30 s"
            time.sleep(0.01)
        return self

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def is_ready(self, node):
        try:
            with urllib.request.urlopen(f"http://{node['admin']}/readyz", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=30)

    def hosts(self, *ids):
        chosen = [node for node in self.nodes if not ids or node["id"] in ids]
        return ",".join(node["endpoints"][self.only] for node in chosen)

    def status(self):
        with urllib.request.urlopen(f"http://{self.nodes[0]['admin']}/api/status", timeout=5) as answer:
            return json.load(answer)["nodes"]

    def leader(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for node in self.status():
                if any(group["role"] == "leader" for group in node["groups"]):
                    return node["id"]
            time.sleep(0.02)
        raise AssertionError("no leader after 20 s")

    def set_defaults(self, configs):
        """Kafka's IncrementalAlterConfigs of the defaults of all brokers, whose name is empty; clients for Python refuse it."""

        def text(value):
            return struct.pack(">h", len(value)) + value.encode()

        entries = b"".join(text(name) + b"\0" + text(value) for name, value in configs.items())
        body = struct.pack(">ib", 1, 4) + text("") + struct.pack(">i", len(configs)) + entries + b"\0"
        request = struct.pack(">hhi", 44, 0, 1) + text("tests") + body
        host, port = self.hosts().split(",")[0].rsplit(":", 1)
        with socket.create_connection((host, int(port)), 10) as connection, connection.makefile("rb") as answers:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", answers.read(4))
            _, _, count, error = struct.unpack(">iiih", answers.read(size)[:14])
        assert (count, error) == (1, 0), f"{configs} are refused with {error}"

    def fault(self, fault, **fields):
        return self.answer(self.fault_request(fault, **fields))["done"]

    def fault_request(self, fault, **fields):
        with open(os.path.join(self.data_dir, "admin.token"), encoding="ascii") as file:
            token = file.read().strip()
        return urllib.request.Request(
            f"http://{self.nodes[0]['admin']}/api/fault",
            data=json.dumps({"fault": fault, **fields}).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )

    def chain_fault(self, fault, **fields):
        """All of the answer to a fault of a chain."""
        return self.answer(self.fault_request(fault, system="bitcoin", **fields))

    @staticmethod
    def answer(request):
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def ledger(folder, *arguments, settings="", offset=None):
    """A cluster that serves a ledger alone, with these lines in `[ledger]`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "verity.toml"
    config.write_text(f"[ledger]\nport = {LEDGER_PORT}\n{settings}", encoding="utf-8")
    return Cluster(folder / "data", "--config", str(config), *arguments, only="ledger", offset=offset)


def bitcoin(folder, *arguments, options=(), offset=None):
    """A cluster that serves Bitcoin alone, with these lines of bitcoin.conf."""
    folder.mkdir(parents=True, exist_ok=True)
    config, (rpc, peers, topics) = folder / "verity.toml", BITCOIN_PORTS
    ports = f"rpc_port = {rpc}\np2p_port = {peers}\nzmq_port = {topics}"
    config.write_text(f"[bitcoin]\n{ports}\noptions = {json.dumps(list(options))}\n", encoding="utf-8")
    return Cluster(folder / "data", "--config", str(config), *arguments, only="bitcoin", offset=offset)


def free_offset():
    usual = (2181, 7070, 7071, 8080, 9092, LEDGER_PORT, *BITCOIN_PORTS)
    for offset in OFFSETS:
        bases = [base + offset + 1000 * node for node in range(4) for base in usual]
        if all(is_free(port) for port in bases):
            return offset
    raise AssertionError("no free ports")


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
