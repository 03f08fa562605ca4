"""A million messages, read again from offset 0: byte for byte the same on every replica, whoever leads, before and after
compaction."""

import hashlib
import re
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

MESSAGES = 1_000_000
KEYS = 50_000
TOPIC = "replay"
SEGMENT = re.compile(r"(\d{20})(?:\.(\d+))?\.log")


def admin_of(cluster):
    return AdminClient({"bootstrap.servers": cluster.hosts()})


def produce(cluster):
    producer = Producer(
        {
            "bootstrap.servers": cluster.hosts(),
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 200_000,
            "message.timeout.ms": 60_000,
        }
    )
    failures = []
    delivered = lambda error, _: failures.append(error) if error else None
    for index in range(MESSAGES):
        value = f"{index:09d}".encode() * 10
        while True:
            try:
                producer.produce(TOPIC, value, str(index % KEYS), partition=0, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        if index % 1000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0 and failures == []


def replay(cluster):
    """Everything from offset 0: how much there is, its digest, and the last value of each key."""
    reader = Consumer({"bootstrap.servers": cluster.hosts(), "group.id": "replay", "enable.partition.eof": True})
    reader.assign([TopicPartition(TOPIC, 0, 0)])
    digest, count, last, deadline = hashlib.sha256(), 0, {}, time.monotonic() + 120
    while time.monotonic() < deadline:
        for message in reader.consume(10_000, 1.0):
            if message.error() is not None:
                reader.close()
                return count, digest.hexdigest(), last
            digest.update(b"%d %s " % (message.offset(), message.key()))
            digest.update(message.value())
            last[message.key()] = message.value()
            count += 1
    raise AssertionError(f"the end was not reached after {count} messages")


def segments(cluster):
    """Of each replica: the newest form of each segment file, and its digest."""
    found = {}
    for path in Path(cluster.data_dir).glob("node-*/groups/*/*.log"):
        match = SEGMENT.fullmatch(path.name)
        if match:
            replica, base, generation = path.parent, match[1], int(match[2] or 0)
            known = found.setdefault(replica, {})
            if generation >= known.get(base, (-1, None))[0]:
                try:
                    known[base] = (generation, hashlib.sha256(path.read_bytes()).hexdigest())
                except FileNotFoundError:
                    # A newer form has taken its place meanwhile; whoever waits for one form looks again.
                    known.pop(base, None)
    return found


def equal_segments(cluster):
    """The one form that the segments have on all replicas, once they have it."""
    deadline = time.monotonic() + 60
    while True:
        replicas = segments(cluster)
        forms = {tuple(sorted(files.items())) for files in replicas.values()}
        if len(replicas) == 3 and len(forms) == 1:
            return forms.pop()
        assert time.monotonic() < deadline, f"{len(forms)} forms on {len(replicas)} replicas"
        time.sleep(0.5)


def leader(cluster, but=None):
    """Who leads the partition, once it is not `but`: metadata name a node that is gone until the others have heard of it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            found = admin_of(cluster).list_topics(TOPIC, 5).topics[TOPIC].partitions[0].leader
            if found not in (-1, but):
                return found
        except KafkaException:
            pass
        time.sleep(0.1)
    raise AssertionError("nobody leads after 30 s")


def set_configs(cluster, entries):
    change = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in entries.items()]
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=change)
    deadline = time.monotonic() + 60
    while True:
        admin = admin_of(cluster)
        try:
            return admin.incremental_alter_configs([resource])[resource].result(30)
        except KafkaException:
            # A node that was just started may not serve yet.
            assert time.monotonic() < deadline, "no node takes a configuration"


def under_each_leader(cluster):
    """Replays under one leader after the other; each is crashed, so that another replica must answer."""
    seen, replays = set(), []
    for _ in range(2):
        first = leader(cluster)
        seen.add(first)
        replays.append(replay(cluster))
        cluster.fault("crash", node=first)
        seen.add(leader(cluster, but=first))
        replays.append(replay(cluster))
        cluster.fault("restart", node=first)
    assert len(seen) >= 2, "leadership moved"
    assert all(again == replays[0] for again in replays), "a replay is what the first was"
    return replays[0]


@pytest.mark.timeout(400)
def test_a_million_messages_are_the_same_on_every_replica(own_cluster):
    admin = admin_of(own_cluster)
    config = {"segment.bytes": str(32 << 20)}
    admin.create_topics([NewTopic(TOPIC, 1, 3, config=config)])[TOPIC].result(30)
    produce(own_cluster)
    before = equal_segments(own_cluster)
    assert len(before) >= 2, "the log has more than one segment"
    count, _, last = under_each_leader(own_cluster)
    assert count == MESSAGES
    assert equal_segments(own_cluster) == before, "leaders change, segments do not"

    set_configs(own_cluster, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"})
    # Of sealed segments the last alone keeps anything; the one that is written to stays as it is.
    deadline = time.monotonic() + 180
    while equal_segments(own_cluster) == before:
        assert time.monotonic() < deadline, "nothing was compacted"
        time.sleep(2.0)
    kept, _, last_kept = under_each_leader(own_cluster)
    assert kept < MESSAGES // 2
    assert last_kept == last, "compaction keeps the last value of each key"
    after = equal_segments(own_cluster)
    assert after != before
