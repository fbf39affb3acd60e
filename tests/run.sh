#!/usr/bin/env bash
# Everything that must hold before a change lands: format, lints, unit tests, scenarios on io_uring and on epoll, plain and
# over TLS, doc tests, benches and load-test programs. Prints a table of the steps and, as its last line, `N passed, N failed`.
# A step that can not run counts as failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly LOGS="${RINGWAY_TEST_LOGS:-$(mktemp -d)}"
mkdir -p "$LOGS"
# Scenarios mostly wait for sockets and deadlines: more of them than cores at once.
readonly THREADS="${RINGWAY_TEST_THREADS:-6}"

# What the scenarios with other people's programs need: command → package.
declare -A NEEDED=([nginx]=nginx-light [haproxy]=haproxy [curl]=curl [nc]=netcat-openbsd [wrk]=wrk [python3]=python3
    [openssl]=openssl [redis-server]=redis-server [htpasswd]=apache2-utils [argon2]=argon2
    [brotli]=brotli [zstd]=zstd [groff]=groff-base [zsh]=zsh [fish]=fish [socat]=socat
    [logrotate]=logrotate [goaccess]=goaccess [jq]=jq [systemd-analyze]=systemd)
# The same for modules of the distribution's own Python, which another one in front of it does not have: module → package.
declare -A NEEDED_MODULES=([jwt]=python3-jwt [cryptography]=python3-cryptography
    [websockets]=python3-websockets [jsonschema]=python3-jsonschema [yaml]=python3-yaml)

install_missing() {
    local command packages=()
    for command in "${!NEEDED[@]}"; do
        command -v "$command" >/dev/null || packages+=("${NEEDED[$command]}")
    done
    local module
    for module in "${!NEEDED_MODULES[@]}"; do
        /usr/bin/python3 -c "import $module" 2>/dev/null || packages+=("${NEEDED_MODULES[$module]}")
    done
    ((${#packages[@]})) || return 0
    local root=()
    [[ $EUID -eq 0 ]] || root=(sudo -n)
    # A distribution's package starts its service: this keeps it from doing so.
    local policy=/usr/sbin/policy-rc.d made_policy=""
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod 755 "$policy"
        made_policy=yes
    fi
    "${root[@]}" apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}"
    local status=$?
    [[ -z $made_policy ]] || "${root[@]}" rm -f "$policy"
    return $status
}

# By name: `--benches` would run the unit tests once more, and a file in benches/ may be a module of another.
BENCHES=()
for bench in $(sed -n "/^\[\[bench\]\]/{n;s/^name = \"\(.*\)\"/\1/p}" Cargo.toml); do
    BENCHES+=(--bench "$bench")
done

passed=0
failed=0
declare -a TABLE=()

# step NAME COMMAND…: runs it, counts the tests it reports; a step that fails without a failed test counts as one.
step() {
    local name=$1 log start status=0 ok bad ignored
    shift
    log="$LOGS/${name//[^a-z0-9]/-}.log"
    echo "── $name"
    start=$SECONDS
    "$@" >"$log" 2>&1 || status=$?
    # cargo's: test result: ok. 12 passed; 0 failed; 0 ignored; …
    ok=$(sum passed "$log")
    bad=$(sum failed "$log")
    ignored=$(sum ignored "$log")
    bad=$((bad + ignored))
    if ((status != 0 && bad == 0)); then bad=1; fi
    if ((bad > 0)); then
        status=1
        show_failure "$log"
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    TABLE+=("$(printf '%-34s %-6s %6d passed %4d failed %5d s' "$name" "$( ((status == 0)) && echo ok || echo FAILED)" "$ok" "$bad" $((SECONDS - start)))")
}

sum() {
    awk -v word="$1" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i ~ "^" word) n += $(i - 1) } END { print n + 0 }' "$2"
}

show_failure() {
    # The part of cargo's output that tells what failed; of other tools, the end.
    if grep -q '^failures:$' "$1"; then
        sed -n '/^failures:$/,$p' "$1" | head -n 400
    else
        tail -n 80 "$1"
    fi
}

step "tools" install_missing
# The gateway with a plugin is no member of the workspace.
format() {
    cargo fmt --check && rustfmt --edition 2024 --check tests/plugin/src/main.rs
}
step "format" format
step "lints" cargo clippy --all-targets --quiet -- -D warnings
step "build" cargo build --all-targets
step "unit tests" cargo test --lib --bins
scenarios() { # [VARIABLE=VALUE…] [-- options of the test program]
    local variables=()
    while (($#)) && [[ $1 != -- ]]; do
        variables+=("$1")
        shift
    done
    env -u MONOIO_FORCE_LEGACY_DRIVER -u RINGWAY_TEST_TLS "${variables[@]}" \
        cargo test --test scenarios -- --test-threads "$THREADS" "${@:2}"
}
# What no driver and no TLS in front of it can change: the source, the config, the codec, control's side of limits, what is
# decided on a head that was read, and what is said in a log or by a command.
SAME=(--skip house_rules:: --skip config:: --skip cfg --skip differential:: --skip limits_redis:: --skip limits_measured::
    --skip matching:: --skip api_keys:: --skip jwt --skip log_formats::)
# Loads that are measured wait for each other: in a process of their own, so that they keep nobody else waiting.
with_loads() {
    local status=0 loads="$LOGS/loads.log"
    scenarios -- limits_measured:: >"$loads" 2>&1 &
    scenarios -- --skip limits_measured:: || status=$?
    wait $! || status=$?
    cat "$loads"
    return $status
}
step "scenarios on io_uring" with_loads
step "scenarios on epoll" scenarios MONOIO_FORCE_LEGACY_DRIVER=1 -- "${SAME[@]}"
step "scenarios over TLS" scenarios RINGWAY_TEST_TLS=1 -- "${SAME[@]}" --skip log_files::
# Both at once: what each of them changed was seen above, so this is about bytes on their way, and how connections end.
step "scenarios over TLS on epoll" scenarios RINGWAY_TEST_TLS=1 MONOIO_FORCE_LEGACY_DRIVER=1 -- \
    attacks:: bodies:: client_gone:: compression:: connect:: deadlines:: drain:: mutation:: proxy_protocol:: requests_strict:: \
    responses_strict:: robustness:: tls tunnels:: unix_sockets:: upstreams:: websockets::
# Those that have a driver.
step "unit tests on epoll" env MONOIO_FORCE_LEGACY_DRIVER=1 cargo test --lib -- io:: worker:: proxy:: core::
step "doc tests" cargo test --doc
step "benches run once" cargo bench --profile dev "${BENCHES[@]}" -- --test

echo
printf '%s\n' "${TABLE[@]}"
echo "logs: $LOGS"
echo
echo "$passed passed, $failed failed"
((failed == 0))
