#!/usr/bin/env bash
# ringway, nginx, HAProxy and a bare relay, side by side on one machine: CPU per request, latency, memory,
# and with --tls the same for HTTPS, and CPU per TLS handshake; with --aggregate one answer made of three upstream calls;
# with --filters what tokens, keys, limits, CORS and header edits add to a forward.
# What is measured and how: README.md beside this file. Options: compare.sh --help
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HERE")
COMMAND="loadtest/compare.sh $*"

usage() {
  cat <<'TEXT'
usage: loadtest/compare.sh [options]
  --profile LIST       head1k2,head60,body256k (default: all three)
  --connections LIST   keep-alive connections of wrk (default: 8,64)
  --proxies LIST       ringway,nginx,haproxy,relay (default: all)
  --base FILE          another build of ringway, measured beside: a change of the hot path carries these figures
  --workers N          workers of each proxy; with more than 1, a ringway with one worker runs beside (default: 1)
  --rounds N           rounds, each with all proxies in random order (default: 20)
  --seconds N          length of one proxy's part of a round (default: 1; with --tls 3, as wrk's own handshakes are in it)
  --seed N             of that order (default: random, printed)
  --peers KIND         nginx and HAProxy: tuned (same work, routes as an expert writes them; the default), plain (one rule per
                       route, as they are usually written), bare (no routes, no headers added: less work than ringway does)
  --latency            also latency at 60 % of saturation with oha, for the head profiles
  --idle[=N]           memory of N idle keep-alive connections (default: 10000)
  --stream[=BYTES]     memory while a body streams down and up (default: 1 GiB)
  --only-memory        no rounds, just --idle and --stream (with --tls: just the idle connections)
  --all                all of that for HTTP without TLS: --latency --idle --stream
  --tls                HTTPS from the clients to ringway, nginx and HAProxy (--proxies says which), one worker each: CPU per request
                       of head1k2 (or --profile head60), CPU per full and per resumed handshake, memory of idle connections
                       (--idle=N; --idle=0 leaves it out); results are tls-*. Not with --latency, --stream, --all, --workers
  --only-handshakes    with --tls: just the handshakes
  --aggregate          GET /report/{id}, one answer made of three 150-byte parts, at each number of connections, one worker each; results
                       are aggregate.*. --proxies are ringway,forward,go,njs,fanout,relay (default: all): forward is ringway's own plain
                       forward of one part, fanout and relay are bare io_uring. Without Go or the njs module that one is skipped, and
                       the report says so. With --base, --connections, --rounds, --seconds, --seed, --out, --tmp and --port only
  --filters            what filters add to a forward: ringway with a JWT (ES256), an API key, a rate limit, CORS, header edits and its JSON
                       log on every route, one worker each, at each number of connections; results are filters.*. --proxies are
                       ringway,forward,nolog,nginx,haproxy,relay (default: the first four): forward is the same ringway without filters,
                       nolog the same without its log. All get the same bytes. With the options of --aggregate, and --peers
  --out DIR            default: loadtest/results
  --tmp DIR            configurations and logs, removed at the end (default: loadtest/tmp; the access log may need a GiB)
  --port N             first of 40 loopback ports (default: 18080)
environment: RINGWAY, RELAY, FANOUT, ORIGIN, HANDSHAKE: programs (default: target/release/ringway,
             target/release/examples/{relay,fanout,origin,handshake})
             GO, NJS_MODULE: the go command, and nginx' module for njs (default: go, and where nginx looks for modules)
             HANDSHAKE_CONNECTIONS: connections that shake hands at a time (default: 8)
             PROXY_CPUS, LOAD_CPUS: where the proxies, and wrk, oha and the origin run (default: the last CPUs, and the rest)
TEXT
}

die() { echo "compare.sh: $*" >&2; exit 1; }

PROFILES='' CONNECTIONS=8,64 PROXIES='' WORKERS=1 ROUNDS=20 SECONDS_EACH=''
SEED=$(((10#$(date +%N) + $$) % 32768)) PEER_CONFIG=tuned BASE='' LATENCY='' IDLE='' STREAM='' ALL='' TLS='' AGGREGATE='' FILTERS='' ROUNDS_WANTED=1 HANDSHAKES_WANTED=1 ONLY_HANDSHAKES=''
OUT=$HERE/results TMP=$HERE/tmp PORT=18080
RINGWAY=${RINGWAY:-$ROOT/target/release/ringway}
RELAY=${RELAY:-$ROOT/target/release/examples/relay}
ORIGIN=${ORIGIN:-$ROOT/target/release/examples/origin}
FANOUT=${FANOUT:-$ROOT/target/release/examples/fanout}
HANDSHAKE=${HANDSHAKE:-$ROOT/target/release/examples/handshake}
HANDSHAKE_CONNECTIONS=${HANDSHAKE_CONNECTIONS:-8}
LATENCY_PASSES=${LATENCY_PASSES:-3} LATENCY_SECONDS=${LATENCY_SECONDS:-10} LATENCY_SHARE=${LATENCY_SHARE:-60}
METRIC_REQUESTS='ringway_requests_total\b'
METRIC_DROPS='ringway_log_lines_(dropped|lost)_total\b'
METRIC_SPREAD='ringway_worker_connections\b'

while (($#)); do
  case $1 in
    --profile | --profiles) PROFILES=$2; shift ;;
    --connections) CONNECTIONS=$2; shift ;;
    --proxies) PROXIES=$2; shift ;;
    --base) BASE=$2; shift ;;
    --workers) WORKERS=$2; shift ;;
    --rounds) ROUNDS=$2; shift ;;
    --seconds) SECONDS_EACH=$2; shift ;;
    --seed) SEED=$2; shift ;;
    --peers) PEER_CONFIG=$2; shift ;;
    --latency) LATENCY=1 ;;
    --idle) IDLE=10000 ;;
    --idle=*) IDLE=${1#*=} ;;
    --stream) STREAM=$((1 << 30)) ;;
    --stream=*) STREAM=${1#*=} ;;
    --only-memory) ROUNDS_WANTED='' HANDSHAKES_WANTED='' ;;
    --only-handshakes) ROUNDS_WANTED='' ONLY_HANDSHAKES=1 IDLE=0 ;;
    --all) ALL=1 LATENCY=1 IDLE=${IDLE:-10000} STREAM=${STREAM:-$((1 << 30))} ;;
    --tls) TLS=1 ;;
    --aggregate) AGGREGATE=1 ;;
    --filters) FILTERS=1 ;;
    --out) OUT=$2; shift ;;
    --tmp) TMP=$2; shift ;;
    --port) PORT=$2; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; die "unknown option $1" ;;
  esac
  shift
done
[[ $PEER_CONFIG =~ ^(tuned|plain|bare)$ ]] || die "--peers is tuned, plain or bare, not $PEER_CONFIG"
[[ $WORKERS$ROUNDS$SECONDS_EACH$SEED$PORT =~ ^[0-9]+$ ]] || die "--workers, --rounds, --seconds, --seed and --port are numbers"
SCHEME=http
POOL_IDLE=128 # upstream connections that each proxy keeps
if [[ $AGGREGATE ]]; then
  [[ $WORKERS == 1 && ! $TLS$ALL$LATENCY$IDLE$STREAM$PROFILES$ONLY_HANDSHAKES && $ROUNDS_WANTED && $PEER_CONFIG == tuned ]] ||
    die "--aggregate is a run of its own: without --tls, --all, --latency, --idle, --stream, --only-memory, --profile, --peers and --workers"
  # Three for each connection of wrk, at 64 of them and some more.
  PROFILES=aggregate PROXIES=${PROXIES:-ringway,forward,go,njs,fanout,relay} POOL_IDLE=512
fi
if [[ $FILTERS ]]; then
  [[ $WORKERS == 1 && ! $TLS$AGGREGATE$ALL$LATENCY$IDLE$STREAM$PROFILES$ONLY_HANDSHAKES && $ROUNDS_WANTED ]] ||
    die "--filters is a run of its own: without --tls, --aggregate, --all, --latency, --idle, --stream, --only-memory, --profile and --workers"
  PROFILES=filters PROXIES=${PROXIES:-ringway,forward,nolog,nginx}
fi
if [[ $TLS ]]; then
  [[ $WORKERS == 1 && ! $ALL$LATENCY$STREAM ]] || die "--tls is a run of its own: without --all, --latency, --stream and --workers"
  SCHEME=https PROFILES=${PROFILES:-head1k2} PROXIES=${PROXIES:-ringway,nginx,haproxy} IDLE=${IDLE:-10000} SECONDS_EACH=${SECONDS_EACH:-3}
  [[ ,$PROXIES, != *,relay,* ]] || die "--tls: the relay does not speak TLS"
  [[ $PROFILES =~ ^head(1k2|60)(,head(1k2|60))*$ ]] || die "--tls: the profiles are head1k2 and head60, not $PROFILES"
else
  [[ ! $ONLY_HANDSHAKES ]] || die "--only-handshakes goes with --tls"
  HANDSHAKES_WANTED=''
fi
SECONDS_EACH=${SECONDS_EACH:-1} PROFILES=${PROFILES:-head1k2,head60,body256k} PROXIES=${PROXIES:-ringway,nginx,haproxy,relay}
[[ $IDLE != 0 ]] || IDLE=''

# --- what must be there -------------------------------------------------------------------------------------------

PATH=$PATH:/usr/sbin:/opt/oha/bin:$HOME/.cargo/bin
need() { command -v "$1" >/dev/null || die "$1 is missing: $2"; }
IFS=, read -ra NAMES <<<"$PROXIES"
[[ ! $BASE ]] || NAMES+=(base)
need wrk "apt-get install wrk"
need python3 "apt-get install python3"
need taskset "apt-get install util-linux"
[[ ! $LATENCY ]] || need oha "cargo install oha --locked"
[[ ! $TLS$FILTERS ]] || need openssl "apt-get install openssl"
[[ ! $HANDSHAKES_WANTED || -x $HANDSHAKE ]] || die "$HANDSHAKE is missing: cargo build --release --examples"
[[ -x $ORIGIN ]] || die "$ORIGIN is missing: cargo build --release --examples"

# What another program answers with is not ours to build: without it the rest is measured, and nobody may overlook that.
SKIPPED=()
skip() { # name why
  local name kept=()
  for name in "${NAMES[@]}"; do [[ $name == "$1" ]] || kept+=("$name"); done
  NAMES=("${kept[@]}")
  SKIPPED+=("$1"$'\t'"$2")
  echo "compare.sh: WARNING: $1 IS SKIPPED: $2. This run says nothing about it; the report will say so." >&2
}
GO=${GO:-go}
if [[ $AGGREGATE && ,$PROXIES, == *,go,* ]] && ! command -v "$GO" >/dev/null; then
  skip go "no Go (apt-get install golang-go, or GO=path)"
fi
if [[ $AGGREGATE && ,$PROXIES, == *,njs,* ]]; then
  need nginx "apt-get install nginx"
  NJS_MODULE=${NJS_MODULE:-$(nginx -V 2>&1 | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p')/ngx_http_js_module.so}
  [[ -e $NJS_MODULE ]] || skip njs "no njs module for nginx (apt-get install libnginx-mod-http-js, or NJS_MODULE=path)"
fi
((${#NAMES[@]})) || die "nothing is left to be measured"
for name in "${NAMES[@]}"; do
  case $name in
    forward) [[ $AGGREGATE$FILTERS ]] || die "$name goes with --aggregate and --filters" ;;
    nolog) [[ $FILTERS ]] || die "$name goes with --filters" ;;
    go | njs | fanout) [[ $AGGREGATE ]] || die "$name goes with --aggregate" ;;
    nginx | haproxy) [[ ! $AGGREGATE ]] || die "--aggregate: $name has no way to answer from three parts (nginx with njs has: njs)" ;;
  esac
  case $name in
    go | njs) ;;
    forward | nolog) [[ -x $RINGWAY ]] || die "$RINGWAY is missing: cargo build --release, or RINGWAY=path" ;;
    fanout) [[ -x $FANOUT ]] || die "$FANOUT is missing: cargo build --release --examples" ;;
    ringway) [[ -x $RINGWAY ]] || die "$RINGWAY is missing: cargo build --release, or RINGWAY=path, or --proxies nginx,haproxy,relay" ;;
    base) [[ -x $BASE ]] || die "--base: $BASE is no program" ;;
    relay) [[ -x $RELAY ]] || die "$RELAY is missing: cargo build --release --examples" ;;
    nginx | haproxy) need "$name" "apt-get install $name" ;;
    *) die "unknown proxy $name: ringway, nginx, haproxy and relay are known; with --aggregate ringway, forward, go, njs, fanout and relay; with --filters also forward and nolog" ;;
  esac
done
ulimit -n "$(ulimit -Hn)"

read -ra CPUS < <(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0)))')
join() { local IFS=,; echo "$*"; }
((${#CPUS[@]} >= WORKERS)) || die "$WORKERS workers need as many CPUs; this process may use ${#CPUS[@]}"
first=$((${#CPUS[@]} - WORKERS))
PROXY_CPUS=${PROXY_CPUS:-$(join "${CPUS[@]:first}")}
if ((first > 0)); then rest=$(join "${CPUS[@]:0:first}"); else rest=$PROXY_CPUS; fi
LOAD_CPUS=${LOAD_CPUS:-$rest}
IFS=, read -ra CPU_LIST <<<"$PROXY_CPUS"

mkdir -p "$OUT" "$TMP"
TMP=$(mktemp -d "$(cd "$TMP" && pwd)/run.XXXXXX")
chmod 755 "$TMP" # nginx's worker is another user
RAW=$TMP/raw
mkdir "$RAW"
# shellcheck source=configs.sh
source "$HERE/configs.sh"
[[ ! $TLS ]] || tls_files "$TMP" || { cat "$TMP/openssl.out" >&2; die "openssl made no certificate"; }
HEADERS=$HERE/headers.txt
if [[ $FILTERS ]]; then
  filter_files "$TMP" || { cat "$TMP/openssl.out" >&2; die "no token can be made"; }
  HEADERS=$TMP/headers.txt
fi
export HEADERS
if [[ $AGGREGATE && " ${NAMES[*]} " == *" go "* ]]; then
  (cd "$TMP" && GO111MODULE=off GOPROXY=off CGO_ENABLED=0 "$GO" build -o "$TMP/aggregator" "$HERE/aggregator.go") ||
    die "the aggregator in Go can not be built"
fi
CA=() # what the clients of probe.py trust; without it they speak HTTP
[[ ! $TLS ]] || CA=("$TMP/tls.pem")

# --- programs: each is started here, and ended by its pid ------------------------------------------------------------

declare -A PID PORTS LOG ADMIN
ORIGIN_PORT=$((PORT + 30)) ORIGIN_PID=''

cleanup() {
  local pid
  for pid in "${PID[@]}" $ORIGIN_PID; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${PID[@]}" $ORIGIN_PID; do
    for _ in {1..100}; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  PID=() ORIGIN_PID=''
}
KEEP=''
finish() { cleanup; [[ $KEEP ]] || rm -rf "$TMP"; rmdir "$(dirname "$TMP")" 2>/dev/null || true; }
trap finish EXIT
trap 'exit 130' INT TERM

probe() { taskset -c "$LOAD_CPUS" python3 "$HERE/probe.py" "$@"; }

# Fails with what the program said, and keeps the files that show why.
broken() { KEEP=1; echo "compare.sh: $1 (see $TMP)" >&2; tail -n 20 "$TMP/$2.out" >&2 2>/dev/null || true; exit 1; }

listening() { # name port
  local pid=${PID[$1]-$ORIGIN_PID}
  probe wait "127.0.0.1:$2" 10 "$pid" || broken "$1 did not start" "$1"
  kill -0 "$pid" 2>/dev/null || broken "$1 ended at once; is port $2 taken?" "$1"
}

start_origin() {
  taskset -c "$LOAD_CPUS" "$ORIGIN" "127.0.0.1:$ORIGIN_PORT" >"$TMP/origin.out" 2>&1 &
  ORIGIN_PID=$!
  listening origin "$ORIGIN_PORT"
}

start() { # name: starts that proxy and waits until it listens
  local name=$1 port
  case $name in ringway) port=$PORT ;; nginx) port=$((PORT + 1)) ;; haproxy) port=$((PORT + 2)) ;; relay) port=$((PORT + 3)) ;; ringway1) port=$((PORT + 4)) ;; base) port=$((PORT + 5)) ;;
    forward) port=$((PORT + 6)) ;; go | nolog) port=$((PORT + 7)) ;; njs) port=$((PORT + 8)) ;; fanout) port=$((PORT + 9)) ;; esac
  PORTS[$name]=$port
  case $name in
    ringway | ringway1 | base | forward | nolog)
      # Its workers pin themselves; its control and log threads may run where they find room, and their CPU time counts.
      local cpus="[${PROXY_CPUS//,/, }]" program=$RINGWAY variant=${AGGREGATE:+report}${FILTERS:+filters}
      [[ $name != forward && $name != nolog ]] || variant=${AGGREGATE:+part}
      [[ $name != ringway1 ]] || cpus="[${CPU_LIST[-1]}]"
      [[ $name != base ]] || program=$BASE
      ADMIN[$name]=http://127.0.0.1:$((port + 10))/metrics LOG[$name]=$TMP/$name-access.log
      rm -f "${LOG[$name]}"
      [[ $name != nolog ]] || LOG[$name]=off
      ringway_config "$port" "127.0.0.1:$((port + 10))" "$cpus" "${LOG[$name]}" "$TMP" "$variant" >"$TMP/$name.yaml"
      "$program" run -c "$TMP/$name.yaml" >"$TMP/$name.out" 2>&1 &
      ;;
    nginx | njs)
      [[ $name != njs ]] || LOG[njs]=$TMP/njs-access.log
      rm -f "$TMP/njs-access.log"
      nginx_config "$port" "$WORKERS" "$TMP" >"$TMP/nginx.conf"
      taskset -c "$PROXY_CPUS" nginx -p "$TMP" -e "$TMP/nginx.log" -c "$TMP/nginx.conf" -g 'daemon off;' >"$TMP/$name.out" 2>&1 &
      ;;
    haproxy)
      haproxy_config "$port" "$WORKERS" "$TMP" >"$TMP/haproxy.cfg"
      taskset -c "$PROXY_CPUS" haproxy -db -f "$TMP/haproxy.cfg" >"$TMP/haproxy.out" 2>&1 &
      ;;
    relay)
      taskset -c "$PROXY_CPUS" "$RELAY" --threads "$WORKERS" "127.0.0.1:$port" "127.0.0.1:$ORIGIN_PORT" >"$TMP/relay.out" 2>&1 &
      ;;
    fanout)
      taskset -c "$PROXY_CPUS" "$FANOUT" "127.0.0.1:$port" "127.0.0.1:$ORIGIN_PORT" >"$TMP/fanout.out" 2>&1 &
      ;;
    go)
      LOG[go]=$TMP/go-access.log
      rm -f "${LOG[go]}"
      GOMAXPROCS=1 taskset -c "$PROXY_CPUS" "$TMP/aggregator" "127.0.0.1:$port" "127.0.0.1:$ORIGIN_PORT" "${LOG[go]}" >"$TMP/go.out" 2>&1 &
      ;;
  esac
  PID[$name]=$!
  listening "$name" "$port"
  local work=full
  [[ $name != relay && ($PEER_CONFIG != bare || $name == ringway* || $name == base) ]] || work=bare
  case $name in
    go | njs | fanout) ;; # they have no other routes, or nothing is asked of them
    *) probe verify "$name" "$SCHEME://127.0.0.1:$port" "$work" "${CA[@]}" || broken "$name does not do what it should" "$name" ;;
  esac
  if [[ $AGGREGATE ]]; then
    [[ $name != fanout ]] || work=bare
    probe aggregate "$name" "127.0.0.1:$port" "$(target "$name")" "127.0.0.1:$ORIGIN_PORT" "$work" "${LOG[$name]-}" ||
      broken "$name does not answer as it should" "$name"
  fi
  if [[ $FILTERS ]]; then
    work=bare
    [[ $name != ringway && $name != base ]] || work=full
    probe filters "$name" "127.0.0.1:$port" "$work" "${LOG[$name]-}" || broken "$name does not do what its filters should" "$name"
  fi
  [[ ! $TLS ]] || negotiated "$name" "$port"
}

# With --aggregate: the path that a program is asked for.
target() { # name
  case $1 in forward | relay) echo /part/user/ ;; *) echo /report/ ;; esac
}

# What a client that leaves the choice to the server gets: the same from all, or their work is not the same.
NEGOTIATED=''
negotiated() { # name port
  local said
  said=$(openssl s_client -connect "127.0.0.1:$2" -servername load.test -CAfile "$TMP/tls.pem" -verify_return_error -alpn http/1.1 \
    </dev/null 2>&1) || broken "$1: openssl s_client: $said" "$1"
  said=$(sed -nE 's/^New, (TLSv[0-9.]+), Cipher is (.*)/\1, \2/p
    s/^(Server|Peer) Temp Key: ([^ ,]*).*/key exchange \2/p; s/^Negotiated TLS1.3 group: (.*)/key exchange \1/p
    s/^Peer signature type: (.*)/signature \1/p; s/^ALPN protocol: (.*)/ALPN \1/p' <<<"$said" | sort -u | paste -sd';' | sed 's/;/, /g')
  [[ $said == *TLSv1.3,* ]] || broken "$1 negotiates $said, not TLS 1.3" "$1"
  NEGOTIATED=${NEGOTIATED:-$said}
  [[ $said == "$NEGOTIATED" ]] || broken "$1 negotiates $said, but the one before: $NEGOTIATED" "$1"
}

# --- CPU per request ---------------------------------------------------------------------------------------------------

RANDOM=$SEED
shuffled() { # sets ORDER to its arguments in random order
  ORDER=("$@")
  local i j
  for ((i = ${#ORDER[@]} - 1; i > 0; i--)); do
    j=$((RANDOM % (i + 1)))
    local swap=${ORDER[i]}
    ORDER[i]=${ORDER[j]} ORDER[j]=$swap
  done
}

# One part of a round; sets REQUESTS, MICROS and CPU_NS.
measure() { # name connections seconds
  local before out bytes errors
  before=$(probe cpu "${PID[$1]}")
  out=$(TARGET=$(target "$1") taskset -c "$LOAD_CPUS" wrk -t1 -c"$2" -d"$3s" --timeout 5s -s "$HERE/profile.lua" "$SCHEME://127.0.0.1:${PORTS[$1]}/") ||
    broken "wrk against $1 failed: $out" "$1"
  sleep 0.1 # its last connections close, the last log lines are written
  CPU_NS=$(($(probe cpu "${PID[$1]}") - before))
  read -r REQUESTS MICROS bytes errors < <(sed -n 's/^RESULT //p' <<<"$out")
  [[ $errors == 0 ]] || broken "$1: $errors errors or answers other than 2xx in a round of wrk: $out" "$1"
  ((REQUESTS > 0)) || broken "$1: no requests in a round of wrk: $out" "$1"
  # An answer of the wrong size is no answer: 128 bytes and a head, or 256 KiB and a head.
  local least=128
  [[ $PROFILE != body256k ]] || least=262144
  # A part, or an object of three: {"user":…,"orders":…,"permissions":…}
  [[ ! $AGGREGATE ]] || case $(target "$1") in /part/*) least=150 ;; *) least=$((3 * 150 + 34)) ;; esac
  ((bytes >= REQUESTS * least && bytes <= REQUESTS * (least + 1024) + $2 * least)) ||
    broken "$1: $bytes bytes in $REQUESTS answers: not the answers of $PROFILE" "$1"
}

rounds() { # connections
  local connections=$1 file=$RAW/${TLS:+tls-}$PROFILE-c$1-w$WORKERS name round
  local names=("${NAMES[@]}")
  [[ $WORKERS == 1 || " ${NAMES[*]} " != *" ringway "* ]] || names+=(ringway1)
  start_origin
  for name in "${names[@]}"; do start "$name"; done
  echo "# $PROFILE${TLS:+ over TLS}, $connections connections, $WORKERS worker(s), $ROUNDS rounds of ${SECONDS_EACH} s, seed $SEED: ${names[*]}"
  declare -A asked=()
  for name in "${names[@]}"; do measure "$name" "$connections" 1; asked[$name]=$REQUESTS; done # warm-up
  : >"$file.tsv"
  for ((round = 1; round <= ROUNDS; round++)); do
    shuffled "${names[@]}"
    for name in "${ORDER[@]}"; do
      if [[ $name == ringway && $WORKERS != 1 ]]; then spread "$file" "$connections" & fi
      local spreading=$!
      measure "$name" "$connections" "$SECONDS_EACH"
      if [[ $name == ringway && $WORKERS != 1 ]]; then wait "$spreading" || broken "no metric matches $METRIC_SPREAD" ringway; fi
      asked[$name]=$((asked[$name] + REQUESTS))
      printf '%s\t%s\t%s\t%s\t%s\n' "$round" "$name" "$REQUESTS" "$MICROS" "$CPU_NS" >>"$file.tsv"
    done
    [[ ! -t 2 ]] || printf '\r  round %d of %d ' "$round" "$ROUNDS" >&2
  done
  [[ ! -t 2 ]] || echo >&2
  if [[ $LATENCY && $PROFILE == head* && $connections == "${CONNECTIONS##*,}" ]]; then latency "$file" "$connections"; fi
  for name in "${names[@]}"; do
    printf '%s\t%s\n' "$name" "$(probe rss "${PID[$name]}")" >>"$file.rss"
    [[ ! $FILTERS || ($name != ringway && $name != base) ]] || check_filters "$name" "${asked[$name]}"
    local routes=90
    [[ ! $AGGREGATE ]] || routes=1
    case $name in
      ringway | ringway1 | base | forward) check_log "$name" "${asked[$name]}" "$file" "$routes" ;;
      # Their probes were three and an echo; wrk leaves one unanswered on each of its connections, at the end of each part.
      go | njs) check_lines "$name" "${asked[$name]}" $((asked[$name] + 4 + connections * (ROUNDS + 1))) "$file" ;;
    esac
  done
  cleanup
  python3 "$HERE/report.py" line "$file"
}

# --- CPU per TLS handshake -----------------------------------------------------------------------------------------------

# One part of a round; sets the same as measure does, where requests are connections, and KINDS to full, resumed, tickets.
measure_handshakes() { # name kind seconds
  local before out bytes errors resume=()
  [[ $2 == full ]] || resume=(--resume)
  before=$(probe cpu "${PID[$1]}")
  out=$(taskset -c "$LOAD_CPUS" "$HANDSHAKE" "${resume[@]}" --seconds "$3" --connections "$HANDSHAKE_CONNECTIONS" \
    "127.0.0.1:${PORTS[$1]}" "$TMP/tls.pem" 2>&1) || broken "handshakes with $1 failed: $out" "$1"
  sleep 0.1
  CPU_NS=$(($(probe cpu "${PID[$1]}") - before))
  read -r REQUESTS MICROS bytes errors < <(sed -n 's/^RESULT //p' <<<"$out")
  KINDS=$(sed -n 's/^KINDS //p' <<<"$out")
  [[ $errors == 0 ]] || broken "$1: $errors errors in a round of handshakes: $out" "$1"
  ((bytes <= REQUESTS * 1024)) || broken "$1: $bytes bytes in $REQUESTS answers: not the answer of /health" "$1"
}

handshakes() { # kind
  local kind=$1 file=$RAW/tls-handshake-$1-c$HANDSHAKE_CONNECTIONS-w$WORKERS name round
  start_origin
  for name in "${NAMES[@]}"; do start "$name"; done
  echo "# $kind TLS handshakes, $HANDSHAKE_CONNECTIONS at a time, $ROUNDS rounds of ${SECONDS_EACH} s, seed $SEED: ${NAMES[*]}"
  declare -A asked=()
  for name in "${NAMES[@]}"; do measure_handshakes "$name" "$kind" 1; asked[$name]=$REQUESTS; done # warm-up
  : >"$file.tsv"
  for ((round = 1; round <= ROUNDS; round++)); do
    shuffled "${NAMES[@]}"
    for name in "${ORDER[@]}"; do
      measure_handshakes "$name" "$kind" "$SECONDS_EACH"
      asked[$name]=$((asked[$name] + REQUESTS))
      printf '%s\t%s\t%s\t%s\t%s\n' "$round" "$name" "$REQUESTS" "$MICROS" "$CPU_NS" >>"$file.tsv"
      printf '%s\t%s\n' "$name" "${KINDS// /$'\t'}" >>"$file.kinds"
    done
    [[ ! -t 2 ]] || printf '\r  round %d of %d ' "$round" "$ROUNDS" >&2
  done
  [[ ! -t 2 ]] || echo >&2
  for name in "${NAMES[@]}"; do
    printf '%s\t%s\n' "$name" "$(probe rss "${PID[$name]}")" >>"$file.rss"
    case $name in ringway | base) check_log "$name" "${asked[$name]}" "$file" 1 ;; esac
  done
  cleanup
  python3 "$HERE/report.py" line "$file"
}

# In the middle of a round, as soon as all connections are there: how they lie on the workers.
spread() { # file connections
  local counts
  sleep 0.3
  for _ in {1..8}; do
    counts=$(probe metrics "${ADMIN[ringway]}" "$METRIC_SPREAD" | sed -n 's/.* //p' | paste -sd' ')
    [[ $counts ]] || return 1
    if (($(paste -sd+ <<<"${counts// /$'\n'}") >= $2)); then
      echo "$counts" >>"$1.spread"
      break
    fi
    sleep 0.1
  done
}

# Every request has its line, and none was dropped: a log that loses lines would be cheaper than it is.
check_log() { # name answers-seen file least-routes
  local lines counted dropped routes
  sleep 1
  lines=$(wc -l <"${LOG[$1]}")
  counted=$(probe metric "${ADMIN[$1]}" "$METRIC_REQUESTS") || broken "$1: requests are not counted" "$1"
  dropped=$(probe metric "${ADMIN[$1]}" "$METRIC_DROPS") || broken "$1: dropped lines are not counted" "$1"
  routes=$(probe log "${LOG[$1]}") || broken "$1: its access log is not what it should be" "$1"
  ((dropped == 0)) || broken "$1: dropped $dropped of its log lines: its figures do not count" "$1"
  ((lines == counted)) || broken "$1: $lines log lines for $counted requests: its figures do not count" "$1"
  ((lines >= $2)) || broken "$1: $lines log lines, but its clients had $2 answers: its figures do not count" "$1"
  ((routes >= $4)) || broken "$1: only $routes different routes in its log: the router did not do its work" "$1"
  printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$lines" "$counted" "$2" "$dropped" >>"$3.log"
  echo "  $1: $lines log lines, $counted requests counted, $2 answers seen by its clients, $dropped dropped"
  rm -f "${LOG[$1]}"
}

# Every filter let every answer's request pass, and tokens were remembered: what is measured is that, and not a short cut.
check_filters() { # name answers-seen
  local filter passed known
  for filter in web who partners fair; do # the one that only edits fields counts nothing: probe.py has seen what it does
    passed=$(probe metric "${ADMIN[$1]}" "ringway_filter_requests_total.*filter=\"$filter\".*outcome=\"passed\"") || broken "$1: $filter is not counted" "$1"
    ((passed >= $2)) || broken "$1: the filter $filter let $passed requests pass, but its clients had $2 answers" "$1"
  done
  known=$(probe metric "${ADMIN[$1]}" 'ringway_token_lookups_total.*result="known"') || broken "$1: tokens are not counted" "$1"
  ((known >= $2)) || broken "$1: only $known of $2 tokens were remembered ones" "$1"
}

# The same for those that do not count their requests: a line for each answer that a client saw.
check_lines() { # name answers-seen requests-sent-at-most file
  local lines
  sleep 1
  lines=$(wc -l <"${LOG[$1]}")
  probe log "${LOG[$1]}" >/dev/null || broken "$1: its access log is not what it should be" "$1"
  ((lines >= $2 && lines <= $3)) || broken "$1: $lines log lines for $2 to $3 requests: its figures do not count" "$1"
  printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$lines" '' "$2" '' >>"$4.log"
  echo "  $1: $lines log lines, $2 answers seen by its clients"
  rm -f "${LOG[$1]}"
}

# --- latency -------------------------------------------------------------------------------------------------------------

latency() { # file connections: the same rate for each, so many percent of what the slowest of ringway and nginx can do
  local file=$1 rate pass name args=() line
  rate=$(python3 "$HERE/report.py" rate "$file" "$LATENCY_SHARE")
  while IFS= read -r line; do [[ $PROFILE == head60 ]] || args+=(-H "$line"); done <"$HERE/headers.txt"
  if [[ $PROFILE != head60 ]]; then args+=(-H "Cookie: session=$(printf 'c%.0s' {1..200})"); fi
  echo "  latency at $rate requests/s ($LATENCY_SHARE % of saturation), $LATENCY_PASSES passes of $LATENCY_SECONDS s"
  for ((pass = 1; pass <= LATENCY_PASSES; pass++)); do
    shuffled "${NAMES[@]}"
    for name in "${ORDER[@]}"; do
      python3 "$HERE/report.py" urls "http://127.0.0.1:${PORTS[$name]}" >"$TMP/urls"
      taskset -c "$LOAD_CPUS" oha -q "$rate" --latency-correction -z "${LATENCY_SECONDS}s" -c "$2" --no-tui --worker-threads 1 \
        --output-format json "${args[@]}" --urls-from-file "$TMP/urls" >"$file.oha.$name.$pass.json" 2>>"$TMP/oha.out" ||
        broken "oha against $name failed" oha
      python3 "$HERE/report.py" oha "$file.oha.$name.$pass.json" "$rate" || broken "$name: oha saw errors" "$name"
    done
  done
}

# --- memory ----------------------------------------------------------------------------------------------------------------

memory() {
  local name
  for name in "${NAMES[@]}"; do
    if [[ $IDLE && $name != relay ]]; then
      echo "# $name: $IDLE idle keep-alive connections${TLS:+ over TLS}"
      start_origin; start "$name"
      local count=$IDLE
      [[ $name != haproxy ]] || ((count < HAPROXY_CONNECTIONS - 10)) || count=$((HAPROXY_CONNECTIONS - 10))
      probe idle "$name" "${PID[$name]}" "127.0.0.1:${PORTS[$name]}" "$count" "${CA[@]}" | tee -a "$RAW/${TLS:+tls-}idle.jsonl"
      cleanup
    fi
    if [[ $STREAM && $name != relay ]]; then
      echo "# $name: $STREAM bytes down, up, and up in chunks"
      start_origin; start "$name"
      probe stream "$name" "${PID[$name]}" "127.0.0.1:${PORTS[$name]}" "$STREAM" | tee -a "$RAW/stream.jsonl"
      cleanup
    fi
  done
}

# --- all of it -------------------------------------------------------------------------------------------------------------

{
  printf 'command\t%s\n' "$COMMAND"
  printf 'date\t%s\n' "$(date -u +%Y-%m-%dT%H:%MZ)"
  printf 'kernel\t%s\n' "$(uname -sr)"
  printf 'cpu\t%s, %s cores\n' "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)" "$(nproc --all)"
  printf 'pinning\tproxies on CPU %s; wrk, oha and origin on CPU %s\n' "$PROXY_CPUS" "$LOAD_CPUS"
  printf 'commit\t%s\n' "$(git -C "$ROOT" describe --always --dirty 2>/dev/null || echo unknown)"
  printf 'seed\t%s\n' "$SEED"
  printf 'peers\t%s\n' "$PEER_CONFIG"
  printf 'rounds\t%s\n' "$ROUNDS"
  [[ ! $AGGREGATE ]] || printf 'aggregate\tyes\n'
  [[ ! $FILTERS ]] || printf 'filters\tyes\n'
  printf 'versions\t'
  for name in "${NAMES[@]}"; do
    case $name in
      ringway) printf '%s, ' "$("$RINGWAY" --version)" ;;
      nginx) printf 'nginx %s, ' "$(nginx -v 2>&1 | sed 's:.*/::')" ;;
      njs) printf 'nginx %s with njs %s, ' "$(nginx -v 2>&1 | sed 's:.*/::')" "$(dpkg-query -W -f '${Version}' libnginx-mod-http-js 2>/dev/null || echo 'of unknown version')" ;;
      go) printf '%s, ' "$("$GO" version | sed 's/^go version go\([^ ]*\).*/Go \1/')" ;;
      haproxy) printf 'HAProxy %s, ' "$(haproxy -v | sed -n 's/^HAProxy version \([^ ]*\).*/\1/p')" ;;
    esac
  done
  printf 'wrk %s' "$(wrk -v 2>&1 | sed -n 's/^wrk [^0-9]*\([0-9][^ ]*\).*/\1/p')"
  [[ ! $LATENCY ]] || printf ', %s' "$(oha --version)"
  [[ ! $TLS ]] || for name in "${NAMES[@]}"; do
    case $name in
      nginx) printf ', nginx on %s' "$(nginx -V 2>&1 | sed -nE 's/^built with ([^ ]+ [^ ]+).*\(running with ([^ ]+ [^ ]+).*/\2/p; t; s/^built with ([^ ]+ [^ ]+).*/\1/p')" ;;
      haproxy) printf ', HAProxy on %s' "$(haproxy -vv | sed -nE 's/^Running on OpenSSL version : ([^ ]+ [^ ]+).*/\1/p')" ;;
    esac
  done
  echo
} >"$RAW/meta.tsv"
((!${#SKIPPED[@]})) || printf '%s\n' "${SKIPPED[@]}" >"$RAW/skipped.tsv"

export PROFILE
if [[ $ROUNDS_WANTED ]]; then
  for PROFILE in ${PROFILES//,/ }; do
    [[ $PROFILE == head1k2 || $PROFILE == head60 || $AGGREGATE$FILTERS || $PROFILE == body256k ]] || die "unknown profile $PROFILE"
    for connections in ${CONNECTIONS//,/ }; do rounds "$connections"; done
  done
fi
if [[ $HANDSHAKES_WANTED ]]; then
  for kind in full resumed; do handshakes "$kind"; done
fi
if [[ $IDLE || $STREAM ]]; then memory; fi
[[ ! $TLS ]] || printf 'tls\t%s\n' "$NEGOTIATED" >>"$RAW/meta.tsv"
python3 "$HERE/report.py" write "$RAW" "$OUT"
