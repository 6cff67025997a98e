#!/usr/bin/env python3
"""Whether `load --url` sees what wrk and ab see: throughput and median latency of one server, side by side.

    bench-harness/examples/external/agreement.py target/release/forkherd-bench [ROUNDS] [SECONDS]

wrk keeps its connections, to a worker on tokio; ab makes one for each request, to a blocking worker. All are
closed loops of 16 clients that ask for /spin/500, so that the server is the bottleneck. It has the first
core to itself, and they have the second. In each round one comes after the other, the order turned over
every time; of the rounds of each the median counts, so that no mood of the machine decides.
"""
import os
import re
import statistics
import subprocess
import sys
import tempfile

ADDRESS = "127.0.0.1:8090"
URL = f"http://{ADDRESS}/spin/500"
CLIENTS = 16


def run(*command):
    """What the command printed, on the clients' core."""
    done = subprocess.run(["taskset", "-c", "1", *command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def number(pattern, text):
    """The number that stands there."""
    found = re.search(pattern, text, re.MULTILINE)
    return float(found[1]) if found else sys.exit(f"no {pattern} in: {text}")


def ours(bench, seconds, *options):
    """Requests per second and the median latency in ms, by `load --url`."""
    text = run(bench, "load", "--url", URL, f"--clients={CLIENTS}", f"--seconds={seconds}", *options)
    return number(r"([\d.]+) requests/s served", text), number(r"latency: p50 ([\d.]+) ms", text)


def wrk(seconds):
    """The same by wrk."""
    text = run("wrk", "--latency", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", URL)
    return number(r"Requests/sec: +([\d.]+)", text), number(r"50% +([\d.]+)ms", text)


def ab(seconds):
    """The same by ab, whose table of percentiles is finer than what it prints."""
    with tempfile.NamedTemporaryFile("r") as table:
        text = run("ab", "-q", f"-c{CLIENTS}", f"-t{seconds}", "-n1000000", "-e", table.name, URL)
        return number(r"Requests per second: +([\d.]+)", text), number(r"^50,([\d.]+)$", table.read())


def beside(bench, runtime, rounds, their, our):
    """Serves on `runtime`, has both ask in each round, and prints what they saw."""
    command = ["taskset", "-c", "0", bench, "serve", "--strategy", "prefork", "--workers", "1"]
    command += ["--runtime", runtime, "--listen", ADDRESS, "--app", "hello"]
    quiet = {**os.environ, "RUST_LOG": "warn"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=quiet)
    seen = {their: [], our: []}
    try:
        if not server.stdout.readline().startswith("listening on "):
            sys.exit(f"no server on {ADDRESS}")
        for turn in range(rounds):
            for tool in (their, our)[:: 1 if turn % 2 == 0 else -1]:
                seen[tool].append(tool[1]())
    finally:
        server.terminate()
        server.wait(timeout=40)
    rows = {name: [*map(statistics.median, zip(*seen[name, ask]))] for name, ask in (their, our)}
    for name, (rate, median) in rows.items():
        print(f"  {name:25}{rate:8.0f} requests/s   median {median:7.3f} ms")
    ratios = [mine / other for other, mine in zip(rows[their[0]], rows[our[0]])]
    print(f"  {'ours over theirs':25}{ratios[0]:8.3f}{'':21}{ratios[1]:7.3f}", flush=True)


bench = os.path.abspath(sys.argv[1])
rounds, seconds = (int(sys.argv[at]) if len(sys.argv) > at else usual for at, usual in ((2, 5), (3, 4)))
print(f"kept connections, tokio ({rounds} rounds of {seconds} s)")
beside(
    bench, "tokio", rounds,
    ("wrk", lambda: wrk(seconds)),
    ("load --url --keep-alive", lambda: ours(bench, seconds, "--keep-alive")),
)
print(f"a connection each, blocking ({rounds} rounds of {seconds} s)")
beside(
    bench, "blocking", rounds,
    ("ab", lambda: ab(seconds)),
    ("load --url", lambda: ours(bench, seconds)),
)
