"""kazoo's recipes, unchanged, against a running cluster."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from kazoo.exceptions import CancelledError
from kazoo.recipe.cache import TreeCache
from kazoo.recipe.lease import NonBlockingLease
from kazoo.recipe.lock import ReadLock, WriteLock
from kazoo.recipe.watchers import ChildrenWatch, DataWatch

WAIT = 15


def eventually(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


@pytest.fixture
def clients(cluster):
    connected = [cluster.client(node["id"]) for node in cluster.nodes[:3]]
    yield connected
    for client in connected:
        client.stop()
        client.close()


def in_threads(works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_lock_is_exclusive_and_fair(clients, root):
    first, second, third = (client.Lock(f"{root}/lock", name) for client, name in zip(clients, "ABC"))
    order = []
    first.acquire()
    waiting = []
    for lock, name in ((second, "B"), (third, "C")):
        def work(lock=lock, name=name):
            with lock:
                order.append(name)
        waiting.append(threading.Thread(target=work))
        waiting[-1].start()
        eventually(lambda name=name: name in first.contenders())
    assert first.contenders() == ["A", "B", "C"]
    order.append("A")
    first.release()
    for thread in waiting:
        thread.join(WAIT)
    assert order == ["A", "B", "C"]


HOLDER = """
import sys, time
from kazoo.client import KazooClient
client = KazooClient(hosts=sys.argv[1], timeout=4)
client.start()
client.Lock(sys.argv[2], "dead").acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_the_dead_release_their_lock(cluster, clients, root):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, cluster.hosts(), f"{root}/lock"], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert not clients[0].Lock(f"{root}/lock", "next").acquire(blocking=False)
        holder.kill()
    assert clients[0].Lock(f"{root}/lock", "next").acquire(timeout=WAIT)


def test_read_and_write_locks(clients, root):
    one, two = ReadLock(clients[0], f"{root}/rw"), ReadLock(clients[1], f"{root}/rw")
    assert one.acquire() and two.acquire()
    writer = WriteLock(clients[2], f"{root}/rw")
    assert not writer.acquire(blocking=False)
    one.release()
    two.release()
    assert writer.acquire(timeout=WAIT)
    assert not ReadLock(clients[0], f"{root}/rw").acquire(blocking=False)
    writer.release()


def test_semaphore(clients, root):
    permits = [client.Semaphore(f"{root}/semaphore", max_leases=2) for client in clients]
    assert permits[0].acquire() and permits[1].acquire()
    assert not permits[2].acquire(blocking=False)
    permits[0].release()
    assert permits[2].acquire(timeout=WAIT)


def test_election(clients, root):
    led = []
    elections = [client.Election(f"{root}/election", str(number)) for number, client in enumerate(clients)]
    in_threads([lambda e=election, n=number: e.run(led.append, n) for number, election in enumerate(elections)])
    assert sorted(led) == [0, 1, 2]


def test_barrier(clients, root):
    barrier = clients[0].Barrier(f"{root}/barrier")
    barrier.create()
    clients[1].sync(root)
    passed = threading.Event()
    waiter = threading.Thread(target=lambda: clients[1].Barrier(f"{root}/barrier").wait(WAIT) and passed.set())
    waiter.start()
    assert not passed.is_set()
    barrier.remove()
    waiter.join(WAIT)
    assert passed.is_set()


def test_double_barrier(clients, root):
    entered = []
    barriers = [client.DoubleBarrier(f"{root}/double", 3, str(number)) for number, client in enumerate(clients)]

    def work(barrier):
        barrier.enter()
        entered.append(len(entered))
        barrier.leave()

    in_threads([lambda b=barrier: work(b) for barrier in barriers])
    assert len(entered) == 3


def test_queue(clients, root):
    queue = clients[0].Queue(f"{root}/queue")
    for value in (b"low", b"high"):
        queue.put(value, priority=10 if value == b"high" else 100)
    other = clients[1].Queue(f"{root}/queue")
    clients[1].sync(root)
    assert [other.get(), other.get(), other.get()] == [b"high", b"low", None]


def test_locking_queue(clients, root):
    queue = clients[0].LockingQueue(f"{root}/lockingqueue")
    queue.put_all([b"one", b"two"])
    other = clients[1].LockingQueue(f"{root}/lockingqueue")
    assert other.get(WAIT) == b"one" and other.holds_lock() and other.consume()
    assert queue.get(WAIT) == b"two" and queue.consume()
    assert len(queue) == 0


def test_counter(clients, root):
    counters = [client.Counter(f"{root}/counter") for client in clients]

    def add(counter):
        for _ in range(20):
            counter += 1

    in_threads([lambda c=counter: add(c) for counter in counters])
    clients[0].sync(root)
    assert counters[0].value == 60


def test_party(clients, root):
    parties = [client.Party(f"{root}/party", name) for client, name in zip(clients, ("a", "b", "c"))]
    for party in parties:
        party.join()
    clients[0].sync(f"{root}/party")
    assert set(parties[0]) == {"a", "b", "c"}
    parties[1].leave()
    clients[0].sync(f"{root}/party")
    assert set(parties[0]) == {"a", "c"}


def test_lease(clients, root):
    assert NonBlockingLease(clients[0], f"{root}/lease", timedelta(seconds=30), identifier="one")
    clients[1].sync(root)
    assert not NonBlockingLease(clients[1], f"{root}/lease", timedelta(seconds=30), identifier="two")


def test_tree_cache(clients, root):
    cache = TreeCache(clients[0], root)
    cache.start()
    clients[1].create(f"{root}/a", b"1")
    clients[1].create(f"{root}/a/b", b"2")
    eventually(lambda: cache.get_data(f"{root}/a/b") is not None)
    assert cache.get_data(f"{root}/a/b").data == b"2"
    clients[1].set(f"{root}/a/b", b"3")
    eventually(lambda: cache.get_data(f"{root}/a/b").data == b"3")
    cache.close()


def test_watchers(clients, root):
    seen, children = [], []
    DataWatch(clients[0], root, lambda data, stat: seen.append(data))
    ChildrenWatch(clients[0], root, children.append)
    clients[1].set(root, b"new")
    clients[1].create(f"{root}/child")
    eventually(lambda: seen[-1:] == [b"new"] and children[-1:] == [["child"]])


def test_partitioner(clients, root):
    partitioners = [
        client.SetPartitioner(f"{root}/set", set=range(6), time_boundary=0.5, identifier=str(number))
        for number, client in enumerate(clients)
    ]
    deadline = time.monotonic() + 30
    while not all(partitioner.acquired for partitioner in partitioners):
        assert time.monotonic() < deadline
        for partitioner in partitioners:
            if partitioner.release:
                partitioner.release_set()
            elif partitioner.allocating:
                partitioner.wait_for_acquire(0.2)
    shares = [sorted(partitioner) for partitioner in partitioners]
    assert sorted(sum(shares, [])) == [0, 1, 2, 3, 4, 5] and all(len(share) == 2 for share in shares)
    for partitioner in partitioners:
        partitioner.finish()


def test_cancelled_lock(clients, root):
    held, waiting = clients[0].Lock(f"{root}/lock"), clients[1].Lock(f"{root}/lock")
    held.acquire()
    outcome = []

    def work():
        try:
            outcome.append(waiting.acquire())
        except CancelledError:
            outcome.append("cancelled")

    thread = threading.Thread(target=work)
    thread.start()
    eventually(lambda: len(held.contenders()) == 2)
    waiting.cancel()
    thread.join(WAIT)
    assert outcome == ["cancelled"]


def test_the_tour_plays_the_lock_recipe():
    """Its client checks each promise on the bare wire and ends the tour with an error where one does not hold."""
    command = [os.environ["VERITY"], "tour", "zookeeper", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    told = [f"{event['who']} {event['what']}" for event in events]
    wanted = [
        "client A is the lowest number: A HOLDS THE LOCK",
        "client B is number 2 in line and watches /locks/mylock/lock-0000000000",
        "client C is number 3 in line and watches /locks/mylock/lock-0000000001",
        "client B was woken and is the lowest number: B HOLDS THE LOCK",
        "client C heard nothing: no herd",
        "client B died without a word; its session runs out",
        "client C was woken by the cleanup and is the lowest number: C HOLDS THE LOCK",
    ]
    assert [line for line in told if line in wanted] == wanted
