"""confluent-kafka's ShareConsumer: records of one partition given to several, settled, given again, and written off."""

import threading
import time

from confluent_kafka import AcknowledgeType, Consumer, KafkaException, Producer, ShareConsumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType


def create(servers, name, partitions=1, config=None):
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(name, partitions, 3, config=config or {})])[name].result(20)
    return admin


def configure(admin, group, **settings):
    operation = AlterConfigOpType.SET
    entries = [
        ConfigEntry(key.replace("_", "."), value, incremental_operation=operation) for key, value in settings.items()
    ]
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result(20)


def begin(servers, name, **settings):
    admin = create(servers, name)
    configure(admin, name, share_auto_offset_reset="earliest", **settings)
    return admin


def produce(servers, name, values):
    failures = []
    producer = Producer({"bootstrap.servers": servers})
    for value in values:
        producer.produce(name, value, partition=0, on_delivery=lambda error, _: error and failures.append(error))
    assert producer.flush(60) == 0 and failures == []


def sharer(servers, group, mode="explicit", topic=None):
    client = ShareConsumer({"bootstrap.servers": servers, "group.id": group, "share.acknowledgement.mode": mode})
    client.subscribe([topic or group])
    return client


def polled(client, timeout=0.5):
    messages = list(client.poll(timeout))
    assert all(message.error() is None for message in messages), [message.error() for message in messages]
    return messages


def take(client, count, kind=AcknowledgeType.ACCEPT, timeout=40):
    """Takes so many records, and says the same of each."""
    values, deadline = [], time.monotonic() + timeout
    while len(values) < count and time.monotonic() < deadline:
        for message in polled(client):
            values.append(message.value().decode())
            client.acknowledge(message, kind)
        settled(client)
    return values


def settled(client):
    errors = [error for error in client.commit_sync().values() if error is not None]
    assert errors == [], errors


def test_two_share_one_partition(servers, name):
    begin(servers, name)
    clients = [sharer(servers, name) for _ in range(2)]
    taken, stop = [[], []], threading.Event()

    def consume(client, own):
        while not stop.is_set():
            for message in polled(client, 0.2):
                own.append(message.value().decode())
                client.acknowledge(message)
            settled(client)
        client.close()

    threads = [threading.Thread(target=consume, args=pair) for pair in zip(clients, taken)]
    for thread in threads:
        thread.start()
    wanted = [str(index) for index in range(600)]
    deadline = time.monotonic() + 40
    for first in range(0, 600, 20):
        produce(servers, name, wanted[first : first + 20])
    while sum(map(len, taken)) < 600 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(taken[0] + taken[1], key=int) == wanted, "each record went to one of them"
    assert taken[0] and taken[1], "both had some"


def test_accept_release_reject(servers, name):
    begin(servers, name)
    produce(servers, name, ["accept", "release", "reject"])
    client = sharer(servers, name)
    seen, deadline = [], time.monotonic() + 30
    while len(seen) < 4 and time.monotonic() < deadline:
        for message in polled(client):
            value = message.value().decode()
            kind = AcknowledgeType.ACCEPT if value in seen else getattr(AcknowledgeType, value.upper())
            seen.append(value)
            client.acknowledge(message, kind)
        settled(client)
    assert seen == ["accept", "release", "reject", "release"], "what was released comes again"
    assert polled(client, 2) == []
    client.close()


def test_implicit_acknowledgement(servers, name):
    begin(servers, name)
    produce(servers, name, ["0", "1", "2"])
    client = sharer(servers, name, "implicit")
    seen, deadline = [], time.monotonic() + 30
    while len(seen) < 3 and time.monotonic() < deadline:
        seen += [message.value().decode() for message in polled(client)]
    # What a poll brought is accepted by the next one.
    assert polled(client) == []
    client.close()
    assert seen == ["0", "1", "2"]
    produce(servers, name, ["3"])
    other = sharer(servers, name)
    assert take(other, 1) == ["3"], "what was taken implicitly stays so"
    other.close()


def test_a_record_is_given_so_often(servers, name):
    begin(servers, name, share_delivery_count_limit="3")
    produce(servers, name, ["poison"])
    client = sharer(servers, name)
    assert take(client, 3, AcknowledgeType.RELEASE) == ["poison"] * 3
    produce(servers, name, ["good"])
    assert take(client, 1) == ["good"]
    client.close()


def test_what_is_not_acknowledged_comes_again(servers, name):
    begin(servers, name, share_record_lock_duration_ms="15000")
    produce(servers, name, ["0", "1"])
    idle, other = sharer(servers, name), sharer(servers, name)
    held, deadline = [], time.monotonic() + 30
    while not held and time.monotonic() < deadline:
        held = polled(idle)
    assert [message.value().decode() for message in held] == ["0", "1"]
    began = time.monotonic()
    assert take(other, 2) == ["0", "1"]
    assert time.monotonic() - began > 5, "not while they were the other's"
    for client in (idle, other):
        try:
            client.close()
        except KafkaException:
            pass


def test_latest_is_the_default(servers, name):
    create(servers, name)
    produce(servers, name, ["old"])
    client = sharer(servers, name)
    # It begins at the end once it has fetched for the first time.
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert polled(client, 0.5) == []
    produce(servers, name, ["new"])
    assert take(client, 1) == ["new"]
    client.close()


def test_the_dead_letter_topic_gets_what_was_rejected(servers, name):
    letters = f"dlq.{name}"
    admin = create(servers, letters, config={"errors.deadletterqueue.group.enable": "true"})
    begin(
        servers,
        name,
        errors_deadletterqueue_topic_name=letters,
        errors_deadletterqueue_copy_record_enable="true",
    )
    produce(servers, name, ["good", "bad"])
    client = sharer(servers, name)
    seen, deadline = 0, time.monotonic() + 30
    while seen < 2 and time.monotonic() < deadline:
        for message in polled(client):
            seen += 1
            bad = message.value() == b"bad"
            client.acknowledge(message, AcknowledgeType.REJECT if bad else AcknowledgeType.ACCEPT)
        settled(client)
    client.close()
    reader = Consumer({"bootstrap.servers": servers, "group.id": letters})
    reader.assign([TopicPartition(letters, 0, 0)])
    message = reader.poll(20)
    reader.close()
    assert message is not None and message.error() is None and message.value() == b"bad"
    assert dict(message.headers()) == {
        "__dlq.errors.topic": name.encode(),
        "__dlq.errors.partition": b"0",
        "__dlq.errors.offset": b"1",
        "__dlq.errors.group": name.encode(),
        "__dlq.errors.delivery.count": b"1",
        "__dlq.errors.message": b"Offset rejected by client.",
    }
    assert admin.list_topics(letters, 10).topics[letters].error is None


def test_nothing_is_lost_and_nothing_settled_comes_again_when_the_leader_crashes(own_cluster):
    servers, name, count = own_cluster.hosts(), "shared", 1500
    admin = begin(servers, name, share_record_lock_duration_ms="15000")
    produce(servers, name, [str(index) for index in range(count)])
    client = sharer(servers, name)
    acknowledged, unsure, again = set(), set(), []
    # What is unsure may come again, once the locks are over that the crash has left.
    quiet, deadline, crashed = time.monotonic(), time.monotonic() + 150, False
    while time.monotonic() < min(quiet + 30, deadline) and (len(acknowledged) < count):
        messages = settle_what_comes(client, acknowledged, unsure, again)
        if messages:
            quiet = time.monotonic()
        if messages and not crashed:
            crashed = True
            leader = admin.list_topics(name, 10).topics[name].partitions[0].leader
            own_cluster.fault("crash", node=leader)
    client.close()
    assert crashed and again == [], "what was settled does not come again"
    assert acknowledged | unsure == set(range(count)), "nothing is lost"


def settle_what_comes(client, acknowledged, unsure, again):
    """Polls, and accepts what comes. True if anything did."""
    try:
        messages = [message for message in client.poll(0.5) if message.error() is None]
    except KafkaException:
        return False
    offsets = {message.offset() for message in messages}
    again += sorted(offsets & acknowledged)
    for message in messages:
        client.acknowledge(message)
    try:
        failed = any(error is not None for error in client.commit_sync(30.0).values())
    except KafkaException:
        failed = True
    (unsure if failed else acknowledged).update(offsets)
    return bool(offsets)
