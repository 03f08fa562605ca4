"""The same requests to ZooKeeper and to Verity, in lock-step: every answer must be the same.

`ORACLE_SEED` repeats a run; `ORACLE_SEQUENCES` and `ORACLE_STEPS` say how much is asked.
"""

import os
import random
import time

import pytest
import servers
from run import Comparison
from sequence import Sequence
from wire import Closed

SEED = int(os.environ.get("ORACLE_SEED") or random.SystemRandom().randrange(1 << 32))
SEQUENCES = int(os.environ.get("ORACLE_SEQUENCES", "3"))
STEPS = int(os.environ.get("ORACLE_STEPS", "400"))
SHRINK_SECONDS_MAX = 25
SHOWN_MAX = 10


@pytest.fixture
def pair(tmp_path):
    """Both servers, fresh, so that no collection of containers falls into a sequence."""
    started = []
    try:
        for start in (servers.zookeeper, servers.verity):
            directory = tmp_path / start.__name__
            directory.mkdir()
            started.append(start(str(directory)))
        yield started
    finally:
        for server in started:
            server.stop()


def first_difference(pair, steps):
    """The number of the first step that is answered differently, and how; or nothing."""
    comparison = Comparison(*pair)
    for number, step in enumerate(steps):
        try:
            difference = comparison.step(step)
        except (Closed, OSError, AssertionError, UnicodeDecodeError) as error:
            difference = f"a run broke: {error!r}"
        if difference:
            return number, difference
    comparison.end()
    return None


def shrink(pair, steps):
    """A shorter sequence that still ends in a difference, as short as the time allows."""
    deadline = time.monotonic() + SHRINK_SECONDS_MAX
    size = len(steps) // 2
    while size and time.monotonic() < deadline:
        start = 0
        while start < len(steps) - 1 and time.monotonic() < deadline:
            shorter = steps[:start] + steps[min(start + size, len(steps) - 1) :]
            found = first_difference(pair, shorter)
            if found:
                steps = shorter[: found[0] + 1]
            else:
                start += size
        size //= 2
    return steps


def report(steps, number, difference):
    return "\n".join([f"step {number}:", *map(repr, steps[: number + 1][-SHOWN_MAX:]), difference])


@pytest.mark.parametrize("number", range(SEQUENCES))
def test_every_answer_is_zookeepers(pair, number):
    seed = SEED + number
    print(f"ORACLE_SEED={seed} ORACLE_SEQUENCES=1")
    steps = Sequence(seed).steps(STEPS)
    found = first_difference(pair, steps)
    if found:
        shrunk = shrink(pair, steps[: found[0] + 1])
        again = first_difference(pair, shrunk)
        shorter = report(shrunk, *again) if again else "it did not come again"
        pytest.fail(f"seed {seed}, {report(steps, *found)}\n--- shrunk, {shorter}", pytrace=False)


def test_a_difference_is_found(pair):
    """The canary: servers that hold different data must not pass."""
    comparison = Comparison(*pair)
    create = ("ask", 0, [(1, "$/a", b"x", [(31, "world", "anyone")], 0)])
    assert comparison.step(create) is None
    assert comparison.ours.step(("ask", 1, [(5, "$/a", b"y", -1)]))
    assert "session 2" in comparison.step(("ask", 2, [(4, "$/a", False)]))
    comparison.end()
