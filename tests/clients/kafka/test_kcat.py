"""kcat, as a user types it."""

import subprocess


def kcat(servers, *arguments, given=None):
    command = ["kcat", "-b", servers, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lines_in_and_out(servers, name):
    kcat(servers, "-P", "-t", name, "-K:", given="a:1\nb:2\nc:3\n")
    assert kcat(servers, "-C", "-t", name, "-e", "-o", "beginning", "-K:") == "a:1\nb:2\nc:3\n"
    assert kcat(servers, "-C", "-t", name, "-e", "-o", "1", "-f", "%o %s\n") == "1 2\n2 3\n"
    assert kcat(servers, "-C", "-t", name, "-e", "-o", "-1", "-f", "%o %s\n") == "2 3\n"


def test_the_cluster_is_listed(servers, name):
    kcat(servers, "-P", "-t", name, given="x\n")
    listed = kcat(servers, "-L")
    assert "4 brokers" in listed and f'topic "{name}" with 1 partitions' in listed


def test_offsets_by_time(servers, name):
    kcat(servers, "-P", "-t", name, given="x\ny\n")
    assert f"{name} [0] offset 0" in kcat(servers, "-Q", "-t", f"{name}:0:0")
    assert f"{name} [0] offset 2" in kcat(servers, "-Q", "-t", f"{name}:0:-1")


def test_a_group_of_one_reads_all(servers, name):
    kcat(servers, "-P", "-t", name, given="x\ny\n")
    options = ["-X", "auto.offset.reset=earliest", "-e"]
    assert sorted(kcat(servers, *options, "-G", f"group-{name}", name).split()) == ["x", "y"]
    kcat(servers, "-P", "-t", name, given="z\n")
    assert kcat(servers, *options, "-G", f"group-{name}", name).split() == ["z"], "it goes on where it was"
