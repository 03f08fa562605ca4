"""Programs in other languages: each is run as `PROGRAM HOSTS SCENARIO`, prints its wishes, and at last `done`.

A wish is a line: `crash leader`, `crash 2`, `restart 2`. It is fulfilled by command, as an operator does it, and answered by
a line. Of two leaders that a program wants dead, the first is back before the second goes.
"""

import os
import subprocess
import threading

PATIENCE = 90


def run(program, cluster, scenario):
    """Runs a scenario to its end; what the program says on standard error is the reason of a failure."""
    pipe = subprocess.PIPE
    command = [program, cluster.hosts(), scenario]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    clock = threading.Timer(PATIENCE, process.kill)
    clock.start()
    crashed = None
    line = ""
    try:
        for line in process.stdout:
            if line == "done\n":
                break
            wish, node = line.split()
            if node == "leader":
                if crashed:
                    fault(cluster, "restart", crashed)
                node = crashed = cluster.leader()
            fault(cluster, wish, node)
            process.stdin.write("as you wish\n")
            process.stdin.flush()
        _, said = process.communicate()
    finally:
        clock.cancel()
        process.kill()
    assert (line, process.returncode) == ("done\n", 0), said


def fault(cluster, kind, node):
    place = ["--admin", cluster.nodes[0]["admin"], "--data-dir", cluster.data_dir]
    subprocess.run([os.environ["VERITY"], "fault", *place, kind, str(node)], check=True, stdout=subprocess.DEVNULL)
