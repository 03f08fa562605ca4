"""`zkCli.sh` of Debian's ZooKeeper 3.8: what its users type, and what it prints. It asks for operations that no other client does."""

import os
import subprocess

PROGRAM = os.environ.get("ZKCLI", "/usr/share/zookeeper/bin/zkCli.sh")

SCRIPT = """
create /z data
create -s /z/s- x
create -e /z/e x
create -c /z/box
create -t 5000 /z/ttl x
addWatch -m PERSISTENT_RECURSIVE /z
create /z/w x
set /z/w y
set -v 9 /z/w y
get /z/w
ls -R /z
getAllChildrenNumber /z
getEphemerals /z
addauth digest user:secret
whoami
setquota -n 10 /z
listquota /z
delquota -n /z
sync /z
stat /z/none
setAcl /z/w auth::rwcda
getAcl /z/w
removewatches /z
delete /z
deleteall /z
ls /
config
close
quit
"""

PRINTED = [
    "WatchedEvent state:SyncConnected type:NodeCreated path:/z/w",
    "WatchedEvent state:SyncConnected type:NodeDataChanged path:/z/w",
    "y",
    *["/z", "/z/box", "/z/e", "/z/s-0000000000", "/z/w"],
    "4",
    "[/z/e]",
    "ip: 127.0.0.1",
    "digest: user",
    "Output quota for /z count=10,bytes=-1=;byteHardLimit=-1;countHardLimit=-1",
    "Output stat for /z count=5,bytes=7",
    "Sync is OK",
    "'digest,'user:5w9W4eL3797Y4Wq8AcKUPPk8ha4=",
    ": cdrwa",
    "WatchedEvent state:SyncConnected type:PersistentWatchRemoved path:/z",
    "[zookeeper]",
    "server.1=",
    "WatchedEvent state:Closed type:None path:null",
]

SAID = [
    *["Created /z", "Created /z/s-0000000000", "Created /z/e", "Created /z/box"],
    "KeeperErrorCode = Unimplemented for /z/ttl",
    "Created /z/w",
    "version No is not valid : /z/w",
    "Node does not exist: /z/none",
    "Node not empty: /z",
]


def test_a_session_at_the_prompt(cluster):
    program = [PROGRAM, "-server", cluster.hosts(1)]
    done = subprocess.run(program, input=SCRIPT, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    for wanted, text in ((PRINTED, done.stdout), (SAID, done.stderr)):
        lines = iter(text.splitlines())
        for line in wanted:
            assert any(found.startswith(line) for found in lines), f"{line!r} is missing, or in another place:\n{text}"
