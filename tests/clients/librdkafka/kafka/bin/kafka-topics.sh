#!/usr/bin/env python3
"""Stands in for Kafka's own kafka-topics.sh, as far as librdkafka's tests call it."""

import argparse

from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

parser = argparse.ArgumentParser()
parser.add_argument("--bootstrap-server", required=True)
for action in ("--create", "--alter", "--delete"):
    parser.add_argument(action, action="store_true")
parser.add_argument("--topic", required=True)
parser.add_argument("--partitions", type=int, default=1)
parser.add_argument("--replication-factor", type=int, default=1)
parser.add_argument("--config", action="append", default=[])
chosen = parser.parse_args()

admin, topic = AdminClient({"bootstrap.servers": chosen.bootstrap_server}), chosen.topic
if chosen.create:
    config = dict(pair.split("=", 1) for pair in chosen.config)
    done = admin.create_topics([NewTopic(topic, chosen.partitions, chosen.replication_factor, config=config)])
elif chosen.alter:
    done = admin.create_partitions([NewPartitions(topic, chosen.partitions)])
elif chosen.delete:
    done = admin.delete_topics([topic])
else:
    parser.error("one of --create, --alter and --delete")
done[topic].result(30)
