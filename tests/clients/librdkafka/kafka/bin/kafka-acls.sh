#!/usr/bin/env python3
"""Stands in for Kafka's own kafka-acls.sh, as far as librdkafka's tests call it."""

import argparse

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

parser = argparse.ArgumentParser()
parser.add_argument("--bootstrap-server", required=True)
for action in ("--add", "--remove", "--force"):
    parser.add_argument(action, action="store_true")
parser.add_argument("--topic", required=True)
parser.add_argument("--operation", required=True)
for rule in ("allow", "deny"):
    parser.add_argument(f"--{rule}-principal")
    parser.add_argument(f"--{rule}-host", default="*")
chosen = parser.parse_args()

rule = "deny" if chosen.deny_principal else "allow"
entry = (
    ResourceType.TOPIC,
    chosen.topic,
    ResourcePatternType.LITERAL,
    getattr(chosen, f"{rule}_principal"),
    getattr(chosen, f"{rule}_host"),
    AclOperation[chosen.operation.upper()],
    AclPermissionType[rule.upper()],
)
admin = AdminClient({"bootstrap.servers": chosen.bootstrap_server})
if chosen.add:
    binding = AclBinding(*entry)
    admin.create_acls([binding])[binding].result(30)
elif chosen.remove:
    wanted = AclBindingFilter(*entry)
    admin.delete_acls([wanted])[wanted].result(30)
else:
    parser.error("one of --add and --remove")
