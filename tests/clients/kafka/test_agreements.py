"""Topics on an agreement of their own: four processes on Raft, with topics on PBFT, and a node that lies."""

import json
import subprocess
import time

import clusters
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewTopic, ResourceType
from servers import LIAR, NODES, Servers, verity

AGREEMENT = "verity.agreement"
PARTITIONS = 4


def await_nodes(servers):
    """Until each node knows all others: a client that asks before takes its time to ask again."""

    def is_known(address):
        try:
            told = AdminClient({"bootstrap.servers": address}).list_topics(timeout=10)
        except KafkaException:
            return False
        return told.controller_id > 0 and set(NODES) <= set(told.brokers)

    deadline = time.monotonic() + 30
    while not all(is_known(address) for address in servers.hosts(*NODES).split(",")):
        assert time.monotonic() < deadline, "the nodes do not know each other after 30 s"
        time.sleep(0.01)


class Brokers(Servers):
    lines = ['cluster = "topics"', 'systems = ["kafka"]']
    port_of_clients = 9092

    def system(self, node):
        return ["[kafka]", f"port = {self.port(9092, node)}"]

    def start(self, *nodes):
        super().start(*nodes)
        await_nodes(self)
        return self

    def topics(self):
        """What `verity kafka topics list` says, by topic."""
        told = verity("--json", "kafka", "--bootstrap", self.hosts(*NODES), "topics", "list")
        return {row["topic"]: row for row in json.loads(told.stdout)["topics"]}


@pytest.fixture
def servers(tmp_path):
    running = []

    def run(**how):
        running.append(Brokers(tmp_path, **how))
        return running[0].start()

    yield run
    for each in running:
        each.stop()


def create(admin, name, configs=None, partitions=PARTITIONS, replicas=-1):
    topic = NewTopic(name, num_partitions=partitions, replication_factor=replicas, config=configs or {})
    [made] = admin.create_topics([topic], operation_timeout=30, request_timeout=40).values()
    made.result()


def code(call):
    with pytest.raises(KafkaException) as refused:
        call()
    return refused.value.args[0].code(), refused.value.args[0].str()


def refusals(admin, until):
    """Why a topic on PBFT is refused, until for this reason, or no more: nodes say their keys as they start."""
    deadline, reasons = time.monotonic() + 30, []
    while time.monotonic() < deadline:
        try:
            create(admin, "sworn", {AGREEMENT: "pbft"})
            return [*reasons, None]
        except KafkaException as refused:
            assert refused.args[0].code() == KafkaError.INVALID_CONFIG, refused
            reasons.append(refused.args[0].str())
            if until and until in reasons[-1]:
                return reasons
    raise AssertionError(f"after 30 s: {reasons[-1]}")


def config(admin, name):
    [told] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    entry = told.result()[AGREEMENT]
    return entry.value, ConfigSource(entry.source), entry.is_read_only


def produce(servers, topics, values):
    producer = Producer({"bootstrap.servers": servers.hosts(*NODES), "enable.idempotence": True, "message.timeout.ms": 60_000})
    failed = []
    for value in values:
        for topic in topics:
            producer.produce(
                topic, b"%d" % value, partition=value % PARTITIONS, on_delivery=lambda error, _: error and failed.append(error)
            )
        producer.poll(0)
    assert producer.flush(90) == 0 and not failed, failed


def read(servers, topic, count):
    """Each partition's values, in their order."""
    consumer = Consumer(
        {"bootstrap.servers": servers.hosts(*NODES), "group.id": "none", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    read, deadline = {partition: [] for partition in range(PARTITIONS)}, time.monotonic() + 60
    while sum(map(len, read.values())) < count and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None and not message.error():
            read[message.partition()].append(int(message.value()))
    consumer.close()
    return read


def expected(count):
    return {partition: list(range(partition, count, PARTITIONS)) for partition in range(PARTITIONS)}


def test_a_topic_on_pbft_beside_one_on_raft_with_a_liar(servers, tmp_path):
    servers = servers(lie="equivocate")
    admin = AdminClient({"bootstrap.servers": servers.hosts(*NODES)})
    create(admin, "sworn", {AGREEMENT: "pbft"})
    create(admin, "usual")
    create(admin, "paxos", {AGREEMENT: "paxos"})
    topics = ["sworn", "usual", "paxos"]
    produce(servers, topics, range(400))
    for topic in topics:
        assert read(servers, topic, 400) == expected(400), topic
    # It led one of the partitions on PBFT at least, and said two things there.
    proofs = [proof for node in (2, 3, 4) for proof in servers.evidence(node)]
    assert proofs and {proof["culprit"] for proof in proofs} == {LIAR}
    assert all(proof["group"].startswith("kafka-") and proof["group"][6:].isdigit() for proof in proofs)
    keys, said = tmp_path / "keys.json", tmp_path / "proofs.json"
    keys.write_text(verity("node", "keys", "--admin", servers.admin(3)).stdout)
    said.write_text(json.dumps({"proofs": proofs}))
    assert f"node {LIAR} signed two" in verity("verify", said, "--keys", keys).stdout
    # Its members stay, and those of the others do not have to.
    replicas = {name: row["replicas"] for name, row in servers.topics().items()}
    assert replicas == {"sworn": 4, "usual": 3, "paxos": 3}
    servers.stop()
    servers.start()
    admin = AdminClient({"bootstrap.servers": servers.hosts(*NODES)})
    produce(servers, topics, range(400, 480))
    for topic in topics:
        assert read(servers, topic, 480) == expected(480), topic
    assert {name: row["agreement"] for name, row in servers.topics().items()} == {
        "sworn": "pbft",
        "usual": "raft",
        "paxos": "paxos",
    }
    assert config(admin, "sworn") == ("pbft", ConfigSource.DYNAMIC_TOPIC_CONFIG, True)
    assert config(admin, "usual") == ("raft", ConfigSource.DEFAULT_CONFIG, True)
    entry = ConfigEntry(AGREEMENT, "raft", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "sworn", incremental_configs=[entry])
    refused = code(lambda: next(iter(admin.incremental_alter_configs([resource]).values())).result())
    assert refused == (
        KafkaError.INVALID_CONFIG,
        "verity.agreement is set when a topic is created, and cannot be changed afterwards.",
    )


def test_without_keys_there_is_no_topic_on_pbft(servers):
    servers = servers(keys=False)
    admin = AdminClient({"bootstrap.servers": servers.hosts(*NODES)})
    create(admin, "paxos", {AGREEMENT: "paxos"})
    error, why = code(lambda: create(admin, "sworn", {AGREEMENT: "pbft"}))
    assert error == KafkaError.INVALID_CONFIG
    assert why == "verity.agreement is pbft, and node 1 has no keys: its file must list every node's in [pbft.keys]."
    error, why = code(lambda: create(admin, "sworn", {AGREEMENT: "zab"}))
    assert error == KafkaError.INVALID_CONFIG and "raft, paxos, pbft" in why
    # All nodes but one are given keys.
    servers.stop()
    for node in (1, 2, 3):
        servers.write(node, True)
    servers.start()
    assert refusals(admin, "node 4 has no keys")[-1], "one of four nodes has no keys"
    servers.stop(4)
    servers.write(4, True)
    servers.start(4)
    assert not refusals(admin, None)[-1], "each has keys"
    produce(servers, ["sworn"], range(40))
    # A node that lost its keys says what is wrong, and ends.
    servers.stop(4)
    servers.write(4, False)
    done = subprocess.run(servers.command(4), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "is on pbft, and this node has no keys: list every node's in [pbft.keys] of its file" in done.stderr
    assert read(servers, "sworn", 40) == expected(40)


def test_a_folder_without_keys_gets_them_and_its_liar_is_named(tmp_path):
    with clusters.Cluster(tmp_path / "data", only="kafka") as cluster:
        await_nodes(cluster)
        create(AdminClient({"bootstrap.servers": cluster.hosts()}), "usual")
    # As a folder of an earlier build is.
    for node in NODES:
        (tmp_path / "data" / f"node-{node}" / "replica.key").unlink()
    with clusters.Cluster(tmp_path / "data", "--byzantine", f"{LIAR}:equivocate", only="kafka") as cluster:
        await_nodes(cluster)
        admin = AdminClient({"bootstrap.servers": cluster.hosts()})
        assert not refusals(admin, None)[-1]
        produce(cluster, ["usual", "sworn"], range(100))
        assert read(cluster, "sworn", 100) == expected(100)
        place = cluster.nodes[1]["admin"]
        proofs = json.loads(verity("--json", "evidence", "--admin", place).stdout)["proofs"]
        assert proofs and {proof["culprit"] for proof in proofs} == {LIAR}
    # Once there are topics on PBFT, another start has them on it.
    with clusters.Cluster(tmp_path / "data", only="kafka") as cluster:
        await_nodes(cluster)
        assert config(AdminClient({"bootstrap.servers": cluster.hosts()}), "sworn")[0] == "pbft"
        assert read(cluster, "sworn", 100) == expected(100)
