"""The two servers under comparison, each a process of its own, ended by its own process id."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

READY_SECONDS_MAX = 60


class Server:
    """A process, and where its clients may connect."""

    def __init__(self, command, directory, speaks=False):
        self.log = open(os.path.join(directory, "log.txt"), "ab")
        out = subprocess.PIPE if speaks else self.log
        self.process = subprocess.Popen(command, stdout=out, stderr=self.log, cwd=directory)
        self.addresses = []

    def wait(self, is_ready):
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not is_ready():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.process.args} ended with {self.process.returncode}; see {self.log.name}")
            if time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"{self.process.args} was not ready in time; see {self.log.name}")
            time.sleep(0.02)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def word(address, name):
    try:
        with socket.create_connection(address, timeout=2) as connection:
            connection.sendall(name)
            return b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return b""


def zookeeper(directory):
    """Debian's ZooKeeper, standalone, on its defaults."""
    jar = os.environ.get("ZOOKEEPER_JAR", "/usr/share/java/zookeeper.jar")
    assert os.path.exists(jar), f"{jar} is not there: install Debian's `zookeeper`, or set ZOOKEEPER_JAR"
    port = free_port()
    settings = os.path.join(directory, "zoo.cfg")
    with open(settings, "w", encoding="ascii") as file:
        file.write(f"dataDir={directory}/data\nclientPort={port}\nclientPortAddress=127.0.0.1\n")
        file.write("tickTime=2000\nadmin.enableServer=false\n")
    # Containers are collected at times of each server's own; here never. Nor does the comparison hang on fsync.
    options = ["-Dznode.container.checkIntervalMs=86400000", "-Dzookeeper.forceSync=no", "-Xmx256m"]
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    server = Server(["java", *options, "-cp", jar, main, settings], directory)
    server.addresses = [("127.0.0.1", port)]
    server.wait(lambda: word(server.addresses[0], b"srvr").startswith(b"Zookeeper version: 3.8."))
    return server


def verity(directory):
    """The binary in $VERITY: four nodes, so that sessions live on different ones."""
    for _ in range(20):
        offset = 12_000 + free_port() % 16_000
        command = [os.environ["VERITY"], "up", "--json", "--only", "zookeeper", "--ephemeral", "--port-offset", str(offset)]
        server = Server(command, directory, speaks=True)
        line = server.process.stdout.readline()
        if line:
            break
        server.process.wait()
        server.stop()
    else:
        raise AssertionError(f"no cluster after 20 tries; see {server.log.name}")
    nodes = json.loads(line)["nodes"]
    for node in nodes:
        host, port = node["endpoints"]["zookeeper"].rsplit(":", 1)
        server.addresses.append((host, int(port)))
    server.wait(lambda: all(is_ready(node) for node in nodes))
    return server


def is_ready(node):
    try:
        with urllib.request.urlopen(f"http://{node['admin']}/readyz", timeout=1) as found:
            return found.status == 200
    except (urllib.error.URLError, OSError):
        return False
