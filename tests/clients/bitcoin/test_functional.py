"""Bitcoin Core's functional test framework starts our node, unchanged: `-datadir`, `bitcoin.conf`, cookie, `debug.log`, JSON-RPC.

The framework comes from the package `warnet`; the tests are ours.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CONFIG = """[environment]
CLIENT_NAME=Bitcoin Core
CLIENT_BUGREPORT=none
SRCDIR={folder}
BUILDDIR={folder}
EXEEXT=
RPCAUTH={folder}/rpcauth.py

[components]
ENABLE_BITCOIND=true
ENABLE_WALLET=true
ENABLE_ZMQ=true
"""
SCRIPTS = sorted((HERE / "functional").glob("*.py"))


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("framework")
    (folder / "config.ini").write_text(CONFIG.format(folder=folder))
    # By this name the binary takes Core's own flags.
    (folder / "bitcoind").symlink_to(os.environ["VERITY"])
    return folder


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_of_ours_on_their_framework(script, config, tmp_path):
    environment = {
        **os.environ,
        "BITCOIND": str(config / "bitcoind"),
        "BITCOINCLI": str(config / "bitcoind"),
        "PYTHONPATH": os.environ["TEST_FRAMEWORK"],
    }
    port_seed = str(1_000 + SCRIPTS.index(script) * 50 + os.getpid() % 40)
    line = [sys.executable, str(script), f"--configfile={config / 'config.ini'}", f"--tmpdir={tmp_path / 'run'}", f"--portseed={port_seed}"]
    ran = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout[-8_000:] + ran.stderr[-4_000:]
