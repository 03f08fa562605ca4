"""kafka-python 3, which speaks the protocol by itself."""

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic


def test_records_in_and_out(servers, name):
    producer = KafkaProducer(bootstrap_servers=servers.split(","))
    sent = [producer.send(name, key=b"k", value=str(index).encode()).get(timeout=30) for index in range(20)]
    assert [metadata.offset for metadata in sent] == list(range(20))
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=servers.split(","), auto_offset_reset="earliest", consumer_timeout_ms=20_000)
    consumer.assign([TopicPartition(name, 0)])
    values = [next(consumer).value.decode() for _ in range(20)]
    assert values == [str(index) for index in range(20)]
    assert consumer.end_offsets([TopicPartition(name, 0)]) == {TopicPartition(name, 0): 20}
    consumer.close()


def test_a_group_commits(servers, name):
    producer = KafkaProducer(bootstrap_servers=servers.split(","))
    for index in range(5):
        producer.send(name, str(index).encode()).get(timeout=30)
    producer.close()

    def member():
        return KafkaConsumer(
            name,
            bootstrap_servers=servers.split(","),
            group_id=f"g-{name}",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            consumer_timeout_ms=20_000,
        )

    first = member()
    assert [next(first).value.decode() for _ in range(5)] == ["0", "1", "2", "3", "4"]
    first.commit()
    assert first.committed(TopicPartition(name, 0)) == 5
    first.close()
    second = member()
    producer = KafkaProducer(bootstrap_servers=servers.split(","))
    producer.send(name, b"5").get(timeout=30)
    assert next(second).value == b"5"
    second.close()
    producer.close()


def test_topics(servers, name):
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
    admin.create_topics([NewTopic(name, num_partitions=3, replication_factor=3)])
    assert name in admin.list_topics()
    admin.delete_topics([name])
    assert name not in admin.list_topics()
    admin.close()
