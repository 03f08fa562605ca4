"""What was acknowledged stays, in its place, when leaders die."""

import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


def test_no_record_is_lost_nor_doubled_when_nodes_crash(own_cluster):
    servers, name, count = own_cluster.hosts(), "failover", 4000
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(name, 1, 3)])[name].result(20)
    acknowledged, failures = [], []

    def delivered(error, message):
        failures.append(error) if error else acknowledged.append((message.offset(), message.value().decode()))

    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "message.timeout.ms": 60_000})
    stop = threading.Event()

    def poll():
        while not stop.is_set():
            producer.poll(0.05)

    poller = threading.Thread(target=poll)
    poller.start()
    for index in range(count):
        producer.produce(name, str(index), partition=0, on_delivery=delivered)
        if index % 1000 == 500:
            leader = admin.list_topics(name, 10).topics[name].partitions[0].leader
            if leader > 0:
                own_cluster.fault("crash", node=leader)
                time.sleep(1.0)
                own_cluster.fault("restart", node=leader)
        if index % 50 == 0:
            time.sleep(0.01)
    assert producer.flush(60) == 0
    stop.set()
    poller.join()
    assert failures == [] and len(acknowledged) == count
    reader = Consumer({"bootstrap.servers": servers, "group.id": "g", "auto.offset.reset": "earliest"})
    reader.assign([TopicPartition(name, 0, 0)])
    found, deadline = {}, time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        message = reader.poll(0.2)
        if message is not None and message.error() is None:
            found[message.offset()] = message.value().decode()
    reader.close()
    assert [found[offset] for offset in sorted(found)] == [str(index) for index in range(count)], "each once, in order"
    assert all(found[offset] == value for offset, value in acknowledged), "an offset that was told never changes"
