"""A node of ours on ports of its own, and calls to it."""

import base64
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]


def eventually(what, holds, patience=20):
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Calls:
    """A node that runs, wherever it was started."""

    def __init__(self, rpc_port, cookie):
        self.rpc_port, self.cookie = rpc_port, cookie

    def call(self, method, *params, wallet=None):
        path = f"/wallet/{wallet}" if wallet else "/"
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.rpc_port}{path}", body)
        request.add_header("Authorization", "Basic " + base64.b64encode(self.cookie.encode()).decode())
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.loads(response.read())
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]


class Node(Calls):
    def __init__(self, folder, *flags, rpc_port=None, port=None, chain="-regtest", folder_of_chain="regtest"):
        self.chain, self.folder_of_chain = chain, folder_of_chain
        self.folder = Path(folder)
        super().__init__(rpc_port or free_port(), None)
        self.port = port or free_port()
        self.flags, self.process = flags, None

    def start_without_waiting(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        line = [os.environ["VERITY"], "bitcoind", self.chain, f"-datadir={self.folder}"]
        line += [f"-rpcport={self.rpc_port}", f"-port={self.port}", "-fallbackfee=0.0002", *self.flags]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return self.process

    def start(self):
        self.start_without_waiting()
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, self.process.stdout.read().decode()
            try:
                self.cookie = (self.folder / self.folder_of_chain / ".cookie").read_text()
                self.call("getblockcount")
                return self
            except (OSError, urllib.error.URLError):
                assert time.monotonic() < deadline, "the node does not answer"
                time.sleep(0.02)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.call("stop")
            assert self.process.wait(30) == 0
        if self.process:
            self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
