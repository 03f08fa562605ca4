"""kafkajs: each file is a run of node's own test runner, against a cluster of the kind that it needs."""

import os
import pathlib
import subprocess

import pytest
from clusters import Cluster
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

HERE = pathlib.Path(__file__).parent
ACCESS = """
[kafka]
sasl = true
allow_everyone_if_no_acl_found = false
super_users = ["User:alice"]

[kafka.plain_users]
alice = "her password"
"""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("kafka"), only="kafka") as cluster:
        yield cluster


@pytest.fixture()
def guarded(tmp_path):
    """A cluster that asks who is there."""
    config = tmp_path / "verity.toml"
    config.write_text(ACCESS, encoding="utf-8")
    with Cluster(tmp_path / "data", "--config", str(config), only="kafka") as cluster:
        yield cluster


def node(cluster, file):
    environment = {**os.environ, "BROKERS": cluster.hosts(), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
    done = subprocess.run(
        ["node", "--no-warnings", "--test", str(HERE / file)], env=environment, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", ["records.test.js", "groups.test.js", "transactions.test.js", "admin.test.js"])
def test_file(cluster, file):
    node(cluster, file)


def test_access(guarded):
    alice = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
    alice |= {"sasl.username": "alice", "sasl.password": "her password"}
    admin = AdminClient({"bootstrap.servers": guarded.hosts(), **alice})
    bob = [
        UserScramCredentialUpsertion("bob", ScramCredentialInfo(mechanism, 4096), b"his password")
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
    ]
    for done in admin.alter_user_scram_credentials(bob).values():
        done.result(20)
    node(guarded, "access.test.js")
