"""A worker of Forkherd in Python: one blocking loop on the listener it is given, descriptor 3.

    compare --app 'python3 bench-harness/examples/external/listen_fds.py'

It answers / at once and /sleep/N after N microseconds. A worker has to accept on the listeners it is
given (LISTEN_FDS says how many, from descriptor 3 on), and on SIGTERM to finish what it serves and exit.
"""
import os
import signal
import socket
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nHello, world!"
serving = leaving = False


def leave(*_):
    global leaving
    leaving = True
    if not serving:
        sys.exit(0)


def serve(client):
    request = b""
    while b"\r\n\r\n" not in request:
        piece = client.recv(4096)
        if not piece:
            return
        request += piece
    path = request.split(b" ", 2)[1]
    if path.startswith(b"/sleep/"):
        time.sleep(int(path[7:]) / 1e6)
    client.sendall(ANSWER)


if os.environ.get("LISTEN_FDS") != "1":
    sys.exit("start me with one listener in LISTEN_FDS, as Forkherd does")
listener = socket.socket(fileno=3)
signal.signal(signal.SIGTERM, leave)
while not leaving:
    client, _ = listener.accept()
    serving = True
    with client:
        try:
            serve(client)
        except OSError:
            pass  # the client went away
    serving = False
