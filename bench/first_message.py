#!/usr/bin/env python3
"""How long a fresh consumer takes until it has its first message: confluent-kafka, unchanged, in a group of its own.

    first_message.py SERVER TOPIC PROTOCOL COUNT

SERVER is `host:port`, or `mock`: librdkafka's own mock of a cluster, inside this process, which answers at once. What is
left against it is the client's own waits. PROTOCOL is `classic` or `consumer` (KIP-848). The topic has one partition and
is made if it is not there, and gets a message. Prints the median of COUNT consumers as `ms=...`, from before a consumer is
made until it has returned the message.
"""

import ctypes
import pathlib
import statistics
import sys
import time
import uuid

import confluent_kafka
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

# A consumer that waits longer has failed.
PATIENCE_S = 30
QUIET = {"log_level": 3}


def mock(topic):
    """Starts librdkafka's mock, which has this topic and whose classic groups wait for nobody, and says where it listens."""
    folder = pathlib.Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(folder.glob("librdkafka-*.so*"))))
    pointer, text = ctypes.c_void_p, ctypes.create_string_buffer(512)
    for name, result in [
        ("rd_kafka_conf_new", pointer),
        ("rd_kafka_new", pointer),
        ("rd_kafka_mock_cluster_new", pointer),
        ("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p),
    ]:
        getattr(library, name).restype = result
    config = pointer(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(config, b"log_level", b"3", text, len(text))
    producer = 0
    client = library.rd_kafka_new(producer, config, text, len(text))
    if not client:
        raise SystemExit(f"first_message.py: the mock does not start: {text.value.decode()}")
    cluster = pointer(library.rd_kafka_mock_cluster_new(pointer(client), 1))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    library.rd_kafka_mock_topic_create(cluster, topic.encode(), 1, 1)
    return library.rd_kafka_mock_cluster_bootstraps(cluster).decode()


def prepare(server, topic):
    """Sees to it that the topic is there and has a message."""
    admin = AdminClient({"bootstrap.servers": server} | QUIET)
    if topic not in admin.list_topics(timeout=PATIENCE_S).topics:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(PATIENCE_S)
    producer = Producer({"bootstrap.servers": server, "acks": "all"} | QUIET)
    producer.produce(topic, b"first")
    if producer.flush(PATIENCE_S):
        raise SystemExit(f"first_message.py: {server} acknowledges nothing")


def first(server, topic, protocol):
    """Seconds until a consumer that did not exist before has a message."""
    config = {
        "bootstrap.servers": server,
        "group.id": f"fresh-{uuid.uuid4()}",
        "group.protocol": protocol,
        "auto.offset.reset": "earliest",
    } | QUIET
    began = time.perf_counter()
    consumer = Consumer(config)
    consumer.subscribe([topic])
    while time.perf_counter() - began < PATIENCE_S:
        message = consumer.poll(0.1)
        if message is not None and not message.error():
            took = time.perf_counter() - began
            consumer.close()
            return took
    raise SystemExit(f"first_message.py: no message from {server} in {PATIENCE_S} s")


def main():
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    server, topic, protocol, count = sys.argv[1:]
    server = mock(topic) if server == "mock" else server
    prepare(server, topic)
    times = [first(server, topic, protocol) for _ in range(int(count))]
    print(f"ms={statistics.median(times) * 1e3:.1f}")


if __name__ == "__main__":
    main()
