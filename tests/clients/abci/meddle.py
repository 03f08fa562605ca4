"""`meddle.py PORT COUNT`: has an application commit so many blocks of nobody's, by ABCI's socket."""

import socket
import sys


def frame(field, body=b""):
    message = varint(field << 3 | 2) + varint(len(body)) + body
    return varint(len(message)) + message


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


FLUSH, COMMIT, FINALIZE = 2, 11, 20
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as app:
    for at in range(int(sys.argv[2])):
        tx = f"meddled-{at}=x".encode()
        block = varint(1 << 3 | 2) + varint(len(tx)) + tx + varint(5 << 3) + varint(at + 1)
        block += varint(6 << 3 | 2) + varint(0) + varint(7 << 3 | 2) + varint(32) + bytes(32)
        block += varint(8 << 3 | 2) + varint(20) + bytes(20) + varint(4 << 3 | 2) + varint(32) + bytes(32)
        block += varint(2 << 3 | 2) + varint(0)
        app.sendall(frame(FINALIZE, block) + frame(COMMIT) + frame(FLUSH))
        answered = 0
        while answered < 1:
            assert app.recv(65536), "it hangs up"
            answered = 1
