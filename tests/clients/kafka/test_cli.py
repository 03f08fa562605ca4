"""`verity kafka`, as a user types it and as a script reads it."""

import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
from clusters import Cluster, free_offset
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

SETTINGS = """
[kafka]
sasl = true
super_users = ["User:admin"]
[kafka.plain_users]
admin = "admin-secret"
"""


class Cli:
    """Runs commands against one cluster."""

    def __init__(self, servers, *flags):
        self.servers = servers
        self.flags = flags

    def run(self, *arguments, given=None, json_wanted=False):
        command = [os.environ["VERITY"], *(["--json"] if json_wanted else []), "kafka", "-b", self.servers]
        command += [*self.flags, *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)

    def __call__(self, *arguments, given=None):
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments, given=None):
        done = self.run(*arguments, given=given, json_wanted=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def records(self, *arguments):
        done = self.run("consume", *arguments, json_wanted=True)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def fails(self, *arguments, given=None):
        """The one line that says why."""
        done = self.run(*arguments, given=given)
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert done.stderr.startswith("verity: ") and done.stderr.count("\n") == 1, done.stderr
        assert done.stdout == ""
        return done.stderr.removeprefix("verity: ").strip()


@pytest.fixture()
def cli(servers):
    return Cli(servers)


def test_topics_from_beginning_to_end(cli, name):
    made = cli.json("topics", "create", name, "--partitions", "3", "--config", "retention.ms=86400000")
    assert made == {"done": f"topic {name} is created with 3 partitions"}
    assert cli("topics", "create", name, "--if-absent") == f"topic {name} is there already\n"
    listed = {row["topic"]: row for row in cli.json("topics", "list")["topics"]}
    assert listed[name] == {"topic": name, "partitions": 3, "replicas": 3, "internal": False, "agreement": "raft"}
    cli("topics", "alter", name, "--partitions", "5", "--config", "cleanup.policy=compact", "--delete-config", "retention.ms")
    [topic] = cli.json("topics", "describe", name)["topics"]
    assert topic["configs"] == {"cleanup.policy": "compact"}
    assert [row["partition"] for row in topic["partitions"]] == [0, 1, 2, 3, 4]
    assert all(row["leader"] in row["replicas"] and (row["start"], row["end"]) == (0, 0) for row in topic["partitions"])
    text = cli("topics", "describe", name)
    assert text.startswith(f"topic {name}, 5 partitions\n  cleanup.policy = compact\n")
    assert all(len(line) < 80 for line in text.splitlines())
    cli("topics", "delete", name)
    assert name not in {row["topic"] for row in cli.json("topics", "list")["topics"]}


def test_a_topic_has_an_agreement_of_its_own(cli, name):
    cli("topics", "create", name, "--agreement", "pbft")
    listed = {row["topic"]: row for row in cli.json("topics", "list")["topics"]}
    assert listed[name] == {"topic": name, "partitions": 1, "replicas": 4, "internal": False, "agreement": "pbft"}
    [row] = [line.split() for line in cli("topics", "list").splitlines() if line.startswith(f"{name} ")]
    assert row == [name, "1", "4", "pbft"]
    [topic] = cli.json("topics", "describe", name)["topics"]
    assert (topic["agreement"], topic["configs"]) == ("pbft", {"verity.agreement": "pbft"})
    refused = cli.fails("topics", "alter", name, "--config", "verity.agreement=raft")
    assert refused.endswith("verity.agreement is set when a topic is created, and cannot be changed afterwards.")


def test_mistakes_with_topics(cli, name):
    cli("topics", "create", name, "--partitions", "2")
    assert cli.fails("topics", "create", name) == f"topic {name} is there already"
    gone = "there is no topic no-such; `verity kafka topics list` shows what there is"
    for command in (["topics", "describe"], ["topics", "delete"], ["produce"], ["consume"]):
        assert cli.fails(*command, "no-such", given="x\n") == gone
    fewer = cli.fails("topics", "alter", name, "--partitions", "1")
    assert fewer.startswith(f"topic {name}: ") and "would not be an increase" in fewer
    assert "no.such" in cli.fails("topics", "alter", name, "--config", "no.such=1")
    assert cli.fails("topics", "alter", name).startswith("nothing to change")
    assert cli.fails("consume", name, "--partition", "2") == f"topic {name} has partitions 0 to 1, not 2"
    assert cli.fails("produce", name, "--key-separator", ":", given="a:1\nb\n").endswith(
        "line 2: there is no \":\" between a key and a value"
    )


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_lines_in_and_records_out(cli, name, codec):
    cli("topics", "create", name, "--partitions", "3")
    lines = "".join(f"key-{index % 7}:value {index}\n" for index in range(200))
    flags = ["--key-separator", ":", "--compression", codec, "--header", "from=test"]
    written = cli.json("produce", name, *flags, given=lines)
    assert written["records"] == 200 and sum(end + 1 for end in written["last_offsets"].values()) == 200
    records = cli.records(name, "--from-beginning", "--exit-at-end")
    assert sorted(record["value"] for record in records) == sorted(f"value {index}" for index in range(200))
    assert records[0]["headers"] == [{"name": "from", "value": "test"}]
    places = {}
    for record in records:
        places.setdefault(record["key"], set()).add(record["partition"])
    assert all(len(partitions) == 1 for partitions in places.values()), "a key has one partition"


def test_keys_lie_where_java_would_place_them(cli, servers, name):
    cli("topics", "create", name, "--partitions", "7")
    producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random"})
    for index in range(50):
        producer.produce(name, "theirs", key=f"key-{index}")
    assert producer.flush(20) == 0
    cli("produce", name, "--key-separator", ":", given="".join(f"key-{index}:ours\n" for index in range(50)))
    places = {"ours": {}, "theirs": {}}
    for record in cli.records(name, "--from-beginning", "--exit-at-end"):
        places[record["value"]][record["key"]] = record["partition"]
    assert len(places["ours"]) == 50 and places["ours"] == places["theirs"]


def test_where_reading_begins_and_ends(cli, name):
    cli("topics", "create", name, "--partitions", "1")
    cli("produce", name, given="a\nb\nc\nd\n")
    assert cli("consume", name, "--from-beginning", "--count", "3") == "a\nb\nc\n"
    assert cli("consume", name, "--offset", "2", "--exit-at-end", "--format", "%t/%p@%o %s\\n") == f"{name}/0@2 c\n{name}/0@3 d\n"
    assert cli("consume", name, "--offset", "-1", "--exit-at-end") == "d\n"
    assert cli("consume", name, "--exit-at-end") == "", "it begins at the end"
    counted = Cli(cli.servers).json("consume", name, "--from-beginning", "--exit-at-end", "--quiet")
    assert (counted["records"], counted["bytes"]) == (4, 4)


def test_bytes_that_are_no_text(cli, servers, name):
    cli("topics", "create", name, "--partitions", "1")
    producer = Producer({"bootstrap.servers": servers})
    producer.produce(name, b"\xff\xfe", key=None)
    producer.produce(name, None, key=b"gone")
    assert producer.flush(20) == 0
    first, second = cli.records(name, "--from-beginning", "--exit-at-end")
    assert (first["key"], first["value_base64"]) == (None, "//4=")
    assert (second["key"], second["value"]) == ("gone", None)


def test_what_is_typed_is_written_at_once(cli, name):
    cli("topics", "create", name, "--partitions", "1")
    command = [os.environ["VERITY"], "kafka", "-b", cli.servers, "produce", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as typing:
        typing.stdin.write("first\n")
        typing.stdin.flush()
        assert cli("consume", name, "--from-beginning", "--count", "1") == "first\n"
        typing.stdin.write("second\n")
        out, _ = typing.communicate(timeout=30)
    assert out == f"2 records (11 B) written to {name}\n"


def test_a_load_tells_how_fast_it_went(cli, name):
    cli("topics", "create", name, "--partitions", "4")
    done = cli.json("produce", name, "--count", "50000", "--size", "200", "--compression", "lz4")
    assert (done["records"], done["bytes"]) == (50_000, 10_000_000) and done["seconds"] > 0
    assert done["bytes_sent"] < done["bytes"]
    assert len(done["last_offsets"]) == 4, "records without keys go round"
    text = cli("produce", name, "--count", "10", "--acks", "1")
    assert re.fullmatch(rf"10 records \(1\.0 kB\) written to {name} in [0-9.]+ s: \d+ records/s, [0-9.]+ k?M?B/s\n", text)
    cli("produce", name, "--count", "10", "--acks", "0")
    deadline = time.monotonic() + 20
    while cli.json("consume", name, "--from-beginning", "--exit-at-end", "--quiet")["records"] != 50_020:
        assert time.monotonic() < deadline


def test_readers_of_committed_records(cli, servers, name):
    cli("topics", "create", name, "--partitions", "1")
    producer = Producer({"bootstrap.servers": servers, "transactional.id": f"tx-{name}"})
    producer.init_transactions(20)
    for value, end in [("kept", producer.commit_transaction), ("dropped", producer.abort_transaction), ("open", None)]:
        producer.begin_transaction()
        producer.produce(name, value)
        assert producer.flush(20) == 0
        if end:
            end(20)
    flags = [name, "--from-beginning", "--exit-at-end"]
    assert cli("consume", *flags, "--isolation", "read-committed") == "kept\n"
    assert cli("consume", *flags) == "kept\ndropped\nopen\n"
    producer.abort_transaction(20)


def test_a_group_goes_on_where_it_was(cli, name):
    cli("topics", "create", name, "--partitions", "3")
    cli("produce", name, "--count", "30", "--size", "4", "--keys", "30")
    group = f"group-{name}"
    reading = ["consume", name, "--group", group, "--from-beginning"]
    assert len(cli(*reading, "--count", "10").split("\n")) == 11
    lag = cli.json("lag", group)["lag"]
    assert sum(row["lag"] for row in lag) == 20 and {row["group"] for row in lag} == {group}
    assert all(row["end"] - row["committed"] == row["lag"] for row in lag)
    assert len(cli(*reading, "--exit-at-end").split("\n")) == 21
    [described] = cli.json("groups", "describe", group)["groups"]
    assert (described["state"], described["members"]) == ("Empty", [])
    assert sum(row["lag"] for row in described["offsets"]) == 0
    [listed] = [row for row in cli.json("groups", "list")["groups"] if row["group"] == group]
    assert listed == {"group": group, "state": "Empty", "kind": "classic", "protocol": "consumer"}
    [short] = [row for row in cli.json("lag")["groups"] if row["group"] == group]
    assert short == {"group": group, "state": "Empty", "partitions": 3, "lag": 0}


def test_members_share_partitions_with_others(cli, servers, name):
    cli("topics", "create", name, "--partitions", "4")
    group = f"group-{name}"
    settings = {"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest"}
    theirs = Consumer({**settings, "partition.assignment.strategy": "range"})
    theirs.subscribe([name])
    stop = threading.Event()

    def poll():
        while not stop.is_set():
            theirs.poll(0.1)

    poller = threading.Thread(target=poll)
    poller.start()
    command = [os.environ["VERITY"], "--json", "kafka", "-b", servers, "consume", name, "--group", group]
    ours = subprocess.Popen([*command, "--from-beginning"], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 40
        while True:
            done = cli.run("groups", "describe", group, json_wanted=True)
            described = json.loads(done.stdout)["groups"][0] if done.returncode == 0 else {"members": [], "state": ""}
            shares = sorted(len(member["assigned"].get(name, [])) for member in described["members"])
            if described["state"] == "Stable" and shares == [2, 2]:
                break
            assert time.monotonic() < deadline, described
            time.sleep(0.2)
        busy = cli.fails("groups", "delete", group)
        assert busy == f"group {group} has members; stop them first"
        assert "has 2 members" in cli.fails("groups", "reset-offsets", group, "--topic", name, "--to-latest")
    finally:
        stop.set()
        poller.join()
        theirs.close()
        ours.terminate()
        ours.communicate(timeout=30)
    assert ours.returncode == 0, "a signal ends it in order"
    deadline = time.monotonic() + 20
    while cli.json("groups", "describe", group)["groups"][0]["state"] != "Empty":
        assert time.monotonic() < deadline, "it has left by itself"


def test_offsets_are_set(cli, name):
    cli("topics", "create", name, "--partitions", "2")
    cli("produce", name, "--partition", "0", given="".join(f"{index}\n" for index in range(10)))
    group = f"group-{name}"
    reset = ["groups", "reset-offsets", group, "--topic"]
    plan = cli.json(*reset, name, "--to-latest", "--dry-run")
    assert plan["set"] is False and cli.json("lag")["groups"] == [
        row for row in cli.json("lag")["groups"] if row["group"] != group
    ]
    done = cli.json(*reset, name, "--to-latest")
    assert done == {
        "group": group,
        "set": True,
        "offsets": [
            {"topic": name, "partition": 0, "before": None, "after": 10},
            {"topic": name, "partition": 1, "before": None, "after": 0},
        ],
    }
    cli(*reset, f"{name}:0", "--shift-by", "-3")
    assert cli("consume", name, "--group", group, "--exit-at-end") == "7\n8\n9\n"
    assert cli.json(*reset, f"{name}:0", "--to-offset", "99")["offsets"][0]["after"] == 10, "within the log"
    assert cli.json(*reset, f"{name}:0", "--to-time", "0")["offsets"][0]["after"] == 0
    assert cli.fails(*reset, f"{name}:7", "--to-earliest") == f"topic {name} has partitions 0 to 1, not 7"
    cli("groups", "delete", group)
    missing = cli.fails("groups", "describe", group)
    assert missing == f"there is no group {group}; `verity kafka groups list` shows those there are"
    assert cli.fails("groups", "delete", group) == missing
    assert cli.fails("lag", group) == missing


def test_nobody_and_strangers():
    offset = free_offset()
    nobody = Cli(f"127.0.0.1:{9092 + offset}").fails("topics", "list")
    assert nobody.startswith(f"no broker at 127.0.0.1:{9092 + offset}: nobody listens there; ")
    assert Cli("localhost").fails("topics", "list") == '"localhost" is not HOST:PORT, such as 127.0.0.1:9092'
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]

        def answer():
            for _ in range(2):
                connection, _ = stranger.accept()
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        told = Cli(f"127.0.0.1:{port}").fails("topics", "list")
    assert told == f"127.0.0.1:{port} does not speak Kafka's protocol"


def test_a_broker_that_is_not_ours():
    """librdkafka's own, as far as it goes: it is older, and knows no administrators."""
    producer = Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "none"})
    producer.produce("t", "theirs", key="k")
    assert producer.flush(20) == 0
    brokers = producer.list_topics(timeout=10).brokers.values()
    cli = Cli(",".join(f"{broker.host}:{broker.port}" for broker in brokers))
    [listed] = cli.json("topics", "list")["topics"]
    assert listed["topic"] == "t"
    cli("produce", "t", "--key-separator", ":", "--compression", "lz4", given="k:ours\nl:more\n")
    assert sorted(cli("consume", "t", "--from-beginning", "--exit-at-end").split()) == ["more", "ours", "theirs"]
    assert "does not know CreateTopics" in cli.fails("topics", "create", "u")


def test_users_with_and_without_tls(tmp_path):
    authority, certificates = tmp_path / "ca", tmp_path / "tls"
    verity = os.environ["VERITY"]
    subprocess.run([verity, "cert", "ca", "--dir", authority], check=True, capture_output=True)
    made = ["cert", "node", "--id", "1", "--ca", authority, "--dir", certificates]
    subprocess.run([verity, *made], check=True, capture_output=True)
    file = tmp_path / "verity.toml"
    text = SETTINGS.replace("[kafka]", f'[kafka]\ntls_dir = "{certificates}"\nclient_certificates = "none"')
    file.write_text(text)
    cluster = Cluster(tmp_path / "data", "--config", str(file), only="kafka").start()
    try:
        servers, tls = cluster.hosts(1), cluster.nodes[0]["endpoints"]["kafka+tls"]
        password = tmp_path / "password"
        password.write_text("admin-secret\n")
        admin = ["--user", "admin", "--sasl", "plain", "--password-file", str(password)]
        assert Cli(servers, *admin)("topics", "list") == "no topics; `verity kafka topics create NAME` makes one\n"
        upsertion = UserScramCredentialUpsertion(
            "alice", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), b"alice-secret"
        )
        settings = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"}
        settings |= {"sasl.username": "admin", "sasl.password": "admin-secret", "bootstrap.servers": servers}
        administrator = AdminClient(settings)
        administrator.alter_user_scram_credentials([upsertion])["alice"].result(20)
        alice = ["--user", "alice", "--password", "alice-secret"]
        ca = ["--tls-ca", str(authority / "ca.pem")]
        Cli(tls, *ca, *alice)("topics", "create", "secret")
        assert Cli(servers, *alice).json("topics", "list")["topics"][0]["topic"] == "secret"
        wrong = Cli(servers, "--user", "alice", "--password", "wrong").fails("topics", "list")
        assert wrong.startswith("authentication failed for user alice by SCRAM-SHA-256: ")
        other = Cli(servers, *alice, "--sasl", "scram-sha-512").fails("topics", "list")
        assert other.startswith("authentication failed for user alice by SCRAM-SHA-512: ")
        assert "(--sasl, --user)" in Cli(servers).fails("topics", "list")
        assert "--tls-ca" in Cli(tls, *alice).fails("topics", "list")
        assert Cli(servers, "--user", "alice").fails("topics", "list").startswith("user alice needs a password")
        assert "TLS failed" in Cli(servers, *ca, *alice).fails("topics", "list")
    finally:
        cluster.stop()


def test_writing_goes_on_when_a_leader_dies(own_cluster):
    cli = Cli(own_cluster.hosts())
    cli("topics", "create", "t", "--partitions", "1", "--replicas", "3")
    command = [os.environ["VERITY"], "--json", "kafka", "-b", cli.servers, "produce", "t"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writing:
        for index in range(300):
            writing.stdin.write(f"{index}\n")
            writing.stdin.flush()
            if index == 100:
                leader = cli.json("topics", "describe", "t")["topics"][0]["partitions"][0]["leader"]
                own_cluster.fault("crash", node=leader)
            time.sleep(0.005)
        out, _ = writing.communicate(timeout=60)
    assert json.loads(out)["records"] == 300
    read = cli("consume", "t", "--from-beginning", "--exit-at-end").split()
    assert read == [str(index) for index in range(300)], "each once, in order"


def figures(node):
    with urllib.request.urlopen(f"http://{node['admin']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r"^verity_(kafka_\w+)(?:\{(.*)\})? (\d+)$", text, re.MULTILINE)
    return {(name, labels): int(value) for name, labels, value in found}


def test_figures(own_cluster):
    cli = Cli(own_cluster.hosts())
    cli("topics", "create", "orders", "--partitions", "3", "--replicas", "3")
    cli("produce", "orders", "--count", "30", "--keys", "30")
    cli("groups", "reset-offsets", "billing", "--topic", "orders", "--to-earliest")
    cli("consume", "orders", "--from-beginning", "--exit-at-end")
    producer = Producer({"bootstrap.servers": cli.servers, "transactional.id": "tx"})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce("orders", "x", partition=0)
    assert producer.flush(20) == 0

    def total(name, labels=""):
        return sum(value for all in every for (one, has), value in all.items() if one == name and labels in has)

    time.sleep(1.2)
    every = [figures(node) for node in own_cluster.nodes]
    assert total("kafka_topics") == 1 and total("kafka_cluster_partitions") == 3
    assert total("kafka_partitions") == 9 and total("kafka_leaders") == 3
    assert total("kafka_under_replicated_partitions") == 0 and total("kafka_offline_partitions") == 0
    assert total("kafka_consumergroup_lag", 'consumergroup="billing",topic="orders"') == 31
    assert total("kafka_consumergroup_lag_sum", 'consumergroup="billing"') == 31
    assert total("kafka_consumergroups", 'state="Empty"') == 1 and total("kafka_consumergroups") == 1
    assert total("kafka_consumergroup_members", 'consumergroup="billing"') == 0
    assert total("kafka_open_transactions") == 1 and total("kafka_undecided_partitions") == 1
    assert total("kafka_last_stable_offset_age_seconds", 'topic="orders",partition="0"') >= 1
    assert total("kafka_messages_total", 'direction="received"') == 31
    assert total("kafka_messages_total", 'direction="sent"') == 30
    assert total("kafka_bytes_total", 'direction="received"') > 3000
    assert total("kafka_connections") > 0 and total("kafka_series_left_out") == 0
    partitions = cli.json("topics", "describe", "orders")["topics"][0]["partitions"]
    dead = partitions[0]["leader"]
    short = sum(dead in partition["replicas"] for partition in partitions)
    own_cluster.fault("crash", node=dead)
    deadline = time.monotonic() + 30
    while True:
        up = [node for node in own_cluster.status() if node["running"]]
        every = [figures(node) for node in own_cluster.nodes if node["id"] in {one["id"] for one in up}]
        if total("kafka_under_replicated_partitions") == short and total("kafka_leaders") == 3:
            break
        assert time.monotonic() < deadline, every
        time.sleep(0.2)


def test_the_tour_ends_by_itself():
    command = [os.environ["VERITY"], "--json", "tour", "kafka"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["what"].startswith("THE SAME RESULT")
    lags = [line["lag"] for line in lines if "lag" in line]
    assert max(lag["search"] for lag in lags) > max(lag["analytics"] for lag in lags), "each at its own pace"
