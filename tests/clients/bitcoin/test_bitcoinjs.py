"""bitcoinjs-lib on node: taproot and witness key hashes, by PSBT."""

import os
import subprocess
from pathlib import Path

import pytest

from node import Node

SCRIPT = Path(__file__).parent.parent / "bitcoinjs/pay.js"


@pytest.mark.timeout(120)
def test_bitcoinjs_lib_pays(tmp_path):
    with Node(tmp_path) as node:
        url = f"http://{node.cookie}@127.0.0.1:{node.rpc_port}"
        environment = {**os.environ, "NODE": url, "NODE_PATH": os.environ["NODE_PATH"]}
        ran = subprocess.run(["node", SCRIPT], env=environment, capture_output=True, text=True, timeout=100)
        assert (ran.returncode, ran.stdout) == (0, "paid\n"), ran.stderr
