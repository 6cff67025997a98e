#!/bin/sh
# nginx with as many workers as asked for, on the port asked for; it answers / and nothing else.
#
#   compare --external nginx='bench-harness/examples/external/nginx.sh {port} {workers}'
set -eu
configuration=$(mktemp)
# nginx removes its pid file when it ends: a file of its own, and never /dev/null.
cat > "$configuration" <<END
daemon off;
worker_processes $2;
pid $configuration.pid;
error_log stderr;
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:$1 backlog=4096;
        location = / { return 200 "Hello, world!"; }
    }
}
END
# Open before it is unlinked, so that nothing is left behind however this ends.
exec 3< "$configuration"
rm "$configuration"
exec nginx -e stderr -c /dev/fd/3
