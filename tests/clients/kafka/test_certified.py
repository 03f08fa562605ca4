"""Records that nobody needs to take a single node's word for."""

import base64
import json

from clusters import Cluster
from confluent_kafka import Producer
from servers import verity


def test_a_record_is_signed_by_nodes_of_which_one_is_honest(tmp_path):
    with Cluster(tmp_path / "data", "--agreement", "pbft", "--nodes", "4", only="kafka") as cluster:
        verity("kafka", "topics", "create", "orders", "--partitions", "2", "--bootstrap", cluster.hosts())
        producer = Producer({"bootstrap.servers": cluster.hosts(), "compression.type": "lz4"})
        for number in range(100):
            producer.produce("orders", key=b"k%d" % number, value=b"order-%d" % number, partition=1)
        assert producer.flush(30) == 0
        place = ["--admin", f"127.0.0.1:{7070 + cluster.offset}", "--data-dir", cluster.data_dir]
        keys, answer = tmp_path / "keys.json", tmp_path / "answer.json"
        keys.write_text(verity("node", "keys", "--admin", place[1]).stdout)
        read = ["--json", "read", "--topic", "orders", *place]
        said = json.loads(verity(*read, "--partition", 1, "--offset", 42).stdout)
        elsewhere = json.loads(verity(*read, "--partition", 0, "--offset", 0).stdout)

    def verify(report, check=True):
        answer.write_text(json.dumps(report))
        return verity("verify", answer, "--keys", keys, check=check)

    # The cluster is gone by now: a certificate needs nobody.
    assert 'record 42 of orders/1' in verify(said).stdout and '"k42" = "order-42"' in verify(said).stdout
    assert len(said["signed_by"]) >= 2
    # Not with the metadata's word for another partition, nor after a bit has changed. Without it nobody says which topic it is.
    moved = verify({**said, "place": elsewhere["place"]}, check=False)
    assert moved.returncode == 1 and "not signed in the name of partition 0" in moved.stderr
    bare = verify({name: part for name, part in said.items() if name != "place"})
    assert "a partition whose topic nobody signed" in bare.stdout
    raw = bytearray(base64.b64decode(said["certificate"]))
    raw[len(raw) // 2] ^= 1
    changed = verify({**said, "certificate": base64.b64encode(raw).decode()}, check=False)
    assert changed.returncode == 1, changed.stdout
