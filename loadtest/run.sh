#!/usr/bin/env bash
# A short load for a first impression: loadtest/run.sh [URL] [SECONDS] [CONNECTIONS]
# Without a URL it starts `ringway demo` and loads its forwarded users route. For comparisons: compare.sh.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
RINGWAY=${RINGWAY:-$(dirname "$HERE")/target/release/ringway}
URL=${1:-} SECONDS_LONG=${2:-10} CONNECTIONS=${3:-64}
PATH=$PATH:/opt/oha/bin:$HOME/.cargo/bin

die() { echo "run.sh: $*" >&2; exit 1; }
PID='' OUT=''
finish() {
  if [[ $PID ]]; then kill -TERM "$PID" 2>/dev/null || true; wait "$PID" 2>/dev/null || true; fi
  [[ ! $OUT ]] || rm -f "$OUT"
}
trap finish EXIT
trap 'exit 130' INT TERM

if [[ ! $URL ]]; then
  [[ -x $RINGWAY ]] || die "$RINGWAY is missing: cargo build --release, or RINGWAY=path, or give a URL"
  OUT=$(mktemp)
  "$RINGWAY" demo >"$OUT" 2>&1 &
  PID=$!
  python3 "$HERE/probe.py" wait 127.0.0.1:8080 10 "$PID" || { cat "$OUT" >&2; die "the demo did not start"; }
  kill -0 "$PID" 2>/dev/null || { cat "$OUT" >&2; die "the demo ended at once; is port 8080 taken?"; }
  URL=http://127.0.0.1:8080/user/1
fi

echo "# $URL, $CONNECTIONS keep-alive connections, $SECONDS_LONG s"
if command -v wrk >/dev/null; then
  wrk -t1 -c"$CONNECTIONS" -d"${SECONDS_LONG}s" --latency "$URL"
elif command -v oha >/dev/null; then
  oha -c "$CONNECTIONS" -z "${SECONDS_LONG}s" --no-tui "$URL"
else
  die "wrk and oha are missing: apt-get install wrk, or cargo install oha --locked"
fi

if [[ $PID ]]; then
  echo "# ringway: $(python3 "$HERE/probe.py" rss "$PID") KiB resident, $(($(python3 "$HERE/probe.py" cpu "$PID") / 1000000)) ms of CPU time, its services included"
fi
