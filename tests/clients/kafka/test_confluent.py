"""confluent-kafka, which is librdkafka: records, groups of both protocols, transactions, administration."""

import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourcePatternType,
    ResourceType,
)

PROTOCOLS = ["classic", "consumer"]


def create(servers, name, partitions=1, config=None):
    admin = AdminClient({"bootstrap.servers": servers})
    topic = NewTopic(name, partitions, 3, config=config or {})
    admin.create_topics([topic])[name].result(20)
    return admin


def produce(servers, name, values, partition=0, **config):
    failures = []
    producer = Producer({"bootstrap.servers": servers, **config})
    for value in values:
        producer.produce(name, value, partition=partition, on_delivery=lambda error, _: error and failures.append(error))
    assert producer.flush(30) == 0 and failures == []


def consumer(servers, group, protocol="classic", **config):
    usual = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "group.protocol": protocol}
    return Consumer({"bootstrap.servers": servers, "group.id": group, **usual, **config})


def take(client, count, timeout=30):
    values, deadline = [], time.monotonic() + timeout
    while len(values) < count and time.monotonic() < deadline:
        message = client.poll(0.2)
        if message is not None:
            assert message.error() is None, message.error()
            values.append(message.value().decode())
    return values


def read(servers, name, count, **config):
    client = consumer(servers, f"reader-{name}", **config)
    client.assign([TopicPartition(name, 0, 0)])
    values = take(client, count)
    client.close()
    return values


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec(servers, name, codec):
    create(servers, name)
    values = [f"value {index} of many that look alike" for index in range(500)]
    produce(servers, name, values, **{"compression.type": codec, "linger.ms": 50})
    assert read(servers, name, 500) == values


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_every_acks(servers, name, acks):
    create(servers, name)
    produce(servers, name, ["a", "b"], acks=acks)
    assert read(servers, name, 2) == ["a", "b"]


def test_an_idempotent_producer(servers, name):
    create(servers, name)
    values = [str(index) for index in range(2000)]
    produce(servers, name, values, **{"enable.idempotence": True, "linger.ms": 0, "batch.num.messages": 10})
    assert read(servers, name, 2000) == values


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_group_commits_and_goes_on(servers, name, protocol):
    create(servers, name, partitions=3)
    for partition in range(3):
        produce(servers, name, [f"{partition}-{index}" for index in range(10)], partition)
    first = consumer(servers, f"g-{name}", protocol)
    first.subscribe([name])
    assert len(take(first, 30)) == 30
    first.commit(asynchronous=False)
    first.close()
    produce(servers, name, ["more"])
    second = consumer(servers, f"g-{name}", protocol)
    second.subscribe([name])
    assert take(second, 1) == ["more"]
    second.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_members_share_the_partitions(servers, name, protocol):
    create(servers, name, partitions=4)
    members = [consumer(servers, f"g-{name}", protocol) for _ in range(2)]
    for member in members:
        member.subscribe([name])
    deadline = time.monotonic() + 45
    while time.monotonic() < deadline:
        for member in members:
            member.poll(0.1)
        shares = [len(member.assignment()) for member in members]
        if shares == [2, 2]:
            break
    assert shares == [2, 2]
    members[0].close()
    while time.monotonic() < deadline and len(members[1].assignment()) < 4:
        members[1].poll(0.1)
    assert len(members[1].assignment()) == 4
    members[1].close()


def transactional(servers, name, **config):
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"t-{name}", **config})
    producer.init_transactions(30)
    return producer


def test_transactions_are_seen_when_they_commit(servers, name):
    create(servers, name)
    producer = transactional(servers, name)
    for attempt, commit in [("a", True), ("b", False), ("c", True)]:
        producer.begin_transaction()
        for index in range(3):
            producer.produce(name, f"{attempt}{index}")
        if commit:
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)
    committed = ["a0", "a1", "a2", "c0", "c1", "c2"]
    assert read(servers, name, 6, **{"isolation.level": "read_committed"}) == committed
    assert len(read(servers, name, 9, **{"isolation.level": "read_uncommitted"})) == 9


def test_offsets_commit_with_their_transaction(servers, name):
    source, sink = f"{name}-in", f"{name}-out"
    create(servers, source)
    create(servers, sink)
    produce(servers, source, ["1", "2", "3"])
    reader = consumer(servers, f"g-{name}")
    reader.subscribe([source])
    producer = transactional(servers, name)
    for commit in [False, True]:
        values = take(reader, 3)
        assert values == ["1", "2", "3"]
        producer.begin_transaction()
        for value in values:
            producer.produce(sink, value * 2)
        positions = reader.position(reader.assignment())
        producer.send_offsets_to_transaction(positions, reader.consumer_group_metadata(), 30)
        if commit:
            producer.commit_transaction(30)
        else:
            producer.flush(30)
            producer.abort_transaction(30)
            reader.seek(TopicPartition(source, 0, 0))
    assert [entry.offset for entry in reader.committed(reader.assignment(), 30)] == [3]
    reader.close()
    assert read(servers, sink, 3, **{"isolation.level": "read_committed"}) == ["11", "22", "33"]


def test_a_newer_producer_fences_the_older(servers, name):
    create(servers, name)
    older = transactional(servers, name)
    older.begin_transaction()
    older.produce(name, "lost")
    older.flush(30)
    newer = transactional(servers, name)
    newer.begin_transaction()
    newer.produce(name, "kept")
    newer.commit_transaction(30)
    with pytest.raises(KafkaException) as raised:
        older.commit_transaction(30)
    assert raised.value.args[0].fatal()
    assert read(servers, name, 1, **{"isolation.level": "read_committed"}) == ["kept"]


def test_topics_are_administered(servers, name):
    admin = create(servers, name, partitions=2, config={"retention.ms": "60000"})
    with pytest.raises(KafkaException) as raised:
        create(servers, name)
    assert raised.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    admin.create_partitions([NewPartitions(name, 5)])[name].result(20)
    deadline = time.monotonic() + 10
    while len(admin.list_topics(name, 10).topics[name].partitions) != 5:
        assert time.monotonic() < deadline
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    change = ConfigEntry("retention.ms", "70000", incremental_operation=AlterConfigOpType.SET)
    admin.incremental_alter_configs([ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[change])])[
        resource
    ].result(20)
    assert admin.describe_configs([resource])[resource].result(20)["retention.ms"].value == "70000"
    produce(servers, name, ["a", "b", "c"])
    deleted = admin.delete_records([TopicPartition(name, 0, 2)])
    assert [future.result(20).low_watermark for future in deleted.values()] == [2]
    earliest = admin.list_offsets({TopicPartition(name, 0): OffsetSpec.earliest()})
    assert [future.result(20).offset for future in earliest.values()] == [2]
    admin.delete_topics([name])[name].result(20)
    deadline = time.monotonic() + 10
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline


def test_groups_are_administered(servers, name):
    admin = create(servers, name)
    produce(servers, name, ["a"])
    client = consumer(servers, f"g-{name}")
    client.subscribe([name])
    assert take(client, 1) == ["a"]
    client.commit(asynchronous=False)
    group = f"g-{name}"
    described = admin.describe_consumer_groups([group])[group].result(20)
    assert described.state.name == "STABLE" and len(described.members) == 1
    client.close()
    assert group in [listed.group_id for listed in admin.list_consumer_groups().result(20).valid]
    admin.delete_consumer_groups([group])[group].result(20)
    assert group not in [listed.group_id for listed in admin.list_consumer_groups().result(20).valid]


def test_the_cluster_and_its_rules(servers, name):
    admin = AdminClient({"bootstrap.servers": servers})
    assert len(admin.describe_cluster().result(20).nodes) == 4
    binding = AclBinding(
        ResourceType.TOPIC,
        f"acl-{name}",
        ResourcePatternType.LITERAL,
        "User:bob",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    admin.create_acls([binding])[binding].result(20)
    wanted = AclBindingFilter(
        ResourceType.TOPIC,
        f"acl-{name}",
        ResourcePatternType.LITERAL,
        None,
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    assert admin.describe_acls(wanted).result(20) == [binding]
    assert admin.delete_acls([wanted])[wanted].result(20) == [binding]
