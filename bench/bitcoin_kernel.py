"""Bitcoin Core's kernel library takes in the blocks that `verity-bench bitcoin make` wrote; one line of name=value pairs."""

import os
import statistics
import struct
import sys
import tempfile
import time

import pbk

PAYMENTS = 4_780


def blocks(path):
    with open(path, "rb") as file:
        while head := file.read(4):
            yield file.read(struct.unpack("<I", head)[0])


def main(path, folder):
    raw = list(blocks(path))
    with tempfile.TemporaryDirectory(dir=folder) as data:
        options = pbk.ChainstateManagerOptions(pbk.make_context(pbk.ChainType.REGTEST), data, f"{data}/blocks")
        # The thread that asks works, too.
        options.set_worker_threads_num(max((os.cpu_count() or 1) - 1, 0))
        manager = pbk.ChainstateManager(options)
        full, wide, begin = [], 0.0, time.perf_counter()
        for one in raw:
            block = pbk.Block(one)
            start = time.perf_counter()
            manager.process_block(block)
            took = (time.perf_counter() - start) * 1e3
            if len(block.transactions) > PAYMENTS:
                full.append(took)
            elif len(block.transactions) > 1:
                wide = took
        height = manager.get_active_chain().height
        assert height == len(raw), f"the chain ends at {height} of {len(raw)}"
        total = time.perf_counter() - begin
    print(f"full_ms={statistics.median(full):.1f} wide_ms={wide:.1f} all_s={total:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
