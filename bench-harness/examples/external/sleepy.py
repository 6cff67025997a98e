"""A WSGI app that answers / at once and /sleep/N after N microseconds.

    compare --external gunicorn='gunicorn --chdir bench-harness/examples/external \
        -w {workers} -b 127.0.0.1:{port} --backlog 4096 sleepy:app'
"""
import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        time.sleep(int(path[len("/sleep/"):]) / 1e6)
    elif path != "/":
        start_response("404 Not Found", [("Content-Length", "0")])
        return []
    start_response("200 OK", [("Content-Length", "13"), ("Content-Type", "text/plain")])
    return [b"Hello, world!"]
