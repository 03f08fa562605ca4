"""Four `verity server` processes, of which one may lie; each is ended by its own process id."""

import json
import os
import signal
import subprocess

import clusters

NODES = range(1, 5)
LIAR = 1


def verity(*arguments, check=True):
    done = subprocess.run([os.environ["VERITY"], *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"{arguments}: {done.stderr}"
    return done


class Servers:
    """What they serve says its lines at the top of the file, its section, and the port of its clients."""

    lines = []
    port_of_clients = 0

    def __init__(self, folder, lie=None, keys=True):
        self.folder, self.lie, self.processes = folder, lie, {}
        self.offset = clusters.free_offset()
        self.keys = {node: verity("node", "key", "--data-dir", self.data(node)).stdout.strip() for node in NODES}
        for node in NODES:
            self.write(node, keys)

    def data(self, node):
        return self.folder / f"data-{node}"

    def port(self, base, node):
        return base + self.offset + 1000 * (node - 1)

    def admin(self, node):
        return f"127.0.0.1:{self.port(7070, node)}"

    def hosts(self, *nodes):
        return ",".join(f"127.0.0.1:{self.port(self.port_of_clients, node)}" for node in nodes)

    def system(self, node):
        """The lines of the system's own section."""
        raise NotImplementedError

    def write(self, node, keys=True):
        lines = ["voters = [1, 2, 3, 4]", *self.lines, "[node]", f"id = {node}", f'data_dir = "{self.data(node)}"']
        lines += [f'peer = "127.0.0.1:{self.port(7071, node)}"', f'admin = "{self.admin(node)}"']
        lines += [*self.system(node), "[lab]", "enabled = true"]
        lines += ["[peers]", *(f'{other} = "127.0.0.1:{self.port(7071, other)}"' for other in NODES)]
        if keys:
            lines += ["[pbft.keys]", *(f'{other} = "{key}"' for other, key in self.keys.items())]
        (self.folder / f"{node}.toml").write_text("\n".join(lines) + "\n")

    def command(self, node):
        command = [os.environ["VERITY"], "--json", "server", "--config", str(self.folder / f"{node}.toml")]
        return command + (["--byzantine", self.lie] if self.lie and node == LIAR else [])

    def start(self, *nodes):
        for node in nodes or NODES:
            self.processes[node] = process = subprocess.Popen(self.command(node), stdout=subprocess.PIPE, text=True)
            assert process.stdout.readline(), f"node {node} printed nothing; exit status {process.wait()}"
        return self

    def stop(self, *nodes, how=signal.SIGTERM):
        for node in nodes or list(self.processes):
            self.processes[node].send_signal(how)
        for node in nodes or list(self.processes):
            self.processes.pop(node).wait(timeout=30)

    def evidence(self, node):
        return json.loads(verity("--json", "evidence", "--admin", self.admin(node)).stdout)["proofs"]
