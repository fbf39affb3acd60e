# The three configurations: sourced by compare.sh, which sets the ports.
# 100 routes: 33 resources with {id}, {id}/sub and a static path that overlaps both, and a catch-all.
# PEER_CONFIG=tuned: the same work, routes as an expert writes them: nested locations, a prefix map.
# PEER_CONFIG=plain: the same work, one location or rule per route, as they are usually written, regex where parameters are.
# PEER_CONFIG=bare: nginx and HAProxy just forward: no routes, no headers added.
# With TLS set, clients speak HTTPS, and GET /health is answered without the origin, the same by all three.
# With FILTERS set, one ringway (filters) has a token, a key, a limit, CORS and header edits on every route.
# With AGGREGATE set, ringway (report) and nginx with njs answer GET /report/{id} from three parts, among those routes.

RESOURCES=33
# HAProxy sets two file descriptors aside for each connection.
HAPROXY_CONNECTIONS=$((($(ulimit -n) - 200) / 2))

tls_files() { # tmp: one ECDSA P-256 certificate, which is its own authority, and its key
  (
    umask 077
    cat >"$1/openssl.cnf" <<'CONF'
[req]
distinguished_name = name
x509_extensions = leaf
prompt = no
[name]
CN = load.test
[leaf]
subjectAltName = DNS:load.test, DNS:localhost, IP:127.0.0.1
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
CONF
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days 30 \
      -config "$1/openssl.cnf" -keyout "$1/tls.key" -out "$1/tls.pem" 2>"$1/openssl.out" || return 1
    cat "$1/tls.pem" "$1/tls.key" >"$1/tls-both.pem" # HAProxy wants them in one file
  ) && chmod 644 "$1/tls.pem"
}

# What --filters asks with, and what it is checked against: a key pair, a token by it, an API key, and headers.txt with both.
FILTER_ORIGIN=https://app.example.com
filter_files() { # tmp
  local token key
  (
    umask 077
    openssl ecparam -name prime256v1 -genkey -noout -out "$1/token.key" &&
      openssl ec -in "$1/token.key" -pubout -out "$1/token.pem" && openssl rand -hex 16 >"$1/api.key"
  ) 2>"$1/openssl.out" || return 1
  token=$(python3 "$HERE/probe.py" token "$1/token.key") || return 1
  key=$(<"$1/api.key")
  sed "s|^Authorization: .*|Authorization: Bearer $token|; s|^Origin: .*|Origin: $FILTER_ORIGIN|" "$HERE/headers.txt" >"$1/headers.txt"
  echo "X-Api-Key: $key" >>"$1/headers.txt"
}

# The limit is one that nobody reaches: what is measured is counting, not refusing.
ringway_filters() { # tmp
  cat <<YAML
filters:
  web: { cors: { origins: [$FILTER_ORIGIN, "https://*.preview.example.com"], credentials: true, headers: [authorization, x-api-key], expose_headers: [ratelimit, ratelimit-policy] } }
  who: { jwt: { issuer: https://id.example.com, audience: load, keys: [{ kid: 2026-01, algorithm: ES256, public_key: $1/token.pem }], claim_headers: { x-user: sub } } }
  partners: { api_key: { header: x-api-key, principal_header: x-partner, keys: [{ sha256: $(printf %s "$(<"$1/api.key")" | sha256sum | cut -d' ' -f1), owner: acme }] } }
  fair: { rate_limit: { rate: 1000000/s, burst: 1000000, key: [principal, ip] } }
  mark: { request_headers: { set: { x-gateway: ringway, x-client-address: "{client_ip}" }, remove: [x-client-version] } }
all_routes: { filters: [web, who, partners, fair, mark] }
YAML
}

ringway_config() { # port admin workers log tmp [report|part|filters]: with --aggregate, the route that is measured
  cat <<YAML
workers: $3
drain: 5s
listeners:
  - name: load
    address: 127.0.0.1:$1
YAML
  [[ ! $TLS ]] || echo "    tls: { certificates: [{ cert: $5/tls.pem, key: $5/tls.key }] }"
  cat <<YAML
upstreams:
  origin: { endpoints: [127.0.0.1:$ORIGIN_PORT], pool: { idle: $POOL_IDLE } }
observe:
  access_log: { to: $4, format: json }
admin: { address: $2 }
YAML
  local forward="{ upstream: origin }"
  if [[ ${6-} == filters ]]; then
    ringway_filters "$5"
    forward="{ upstream: origin, response_headers: { set: { x-served-by: ringway }, remove: [x-origin] } }"
  fi
  cat <<YAML
routes:
  - { name: rest, match: { path: "/{*rest}" }, forward: $forward }
YAML
  [[ ! $TLS ]] || echo '  - { name: health, match: { path: /health }, respond: { status: 200, headers: { content-type: text/plain }, body: ok } }'
  case ${6-} in
    report) cat <<'YAML' ;;
  - name: report
    match: { path: "/report/{id}" }
    timeout: 2s
    aggregate:
      envelope: raw
      parts:
        - { name: user, upstream: origin, request: { path: "/part/user/{id}" }, timeout: 1s }
        - { name: orders, upstream: origin, request: { path: "/part/orders/{id}" }, timeout: 1s }
        - { name: permissions, upstream: origin, request: { path: "/part/permissions/{id}" }, timeout: 1s }
YAML
    part) echo '  - { name: part, match: { path: "/part/user/{id}" }, timeout: 2s, forward: { upstream: origin } }' ;;
  esac
  local i
  for ((i = 1; i <= RESOURCES; i++)); do
    cat <<YAML
  - { name: res$i, match: { path: "/api/v1/res$i/{id}" }, forward: $forward }
  - { name: res${i}_sub, match: { path: "/api/v1/res$i/{id}/sub" }, forward: $forward }
  - { name: res${i}_list, match: { path: /api/v1/res$i/list }, forward: $forward }
YAML
  done
}

nginx_config() { # port workers tmp
  [[ ! $AGGREGATE ]] || echo "load_module $NJS_MODULE;"
  cat <<CONF
worker_processes $2;
pid $3/nginx.pid;
error_log $3/nginx.log warn;
worker_rlimit_nofile $(ulimit -n);
pcre_jit on;
events { worker_connections 16384; }
http {
  access_log off;
  client_body_temp_path $3/nginx-body;
  proxy_temp_path $3/nginx-proxy;
  fastcgi_temp_path $3/nginx-fastcgi;
  uwsgi_temp_path $3/nginx-uwsgi;
  scgi_temp_path $3/nginx-scgi;
  keepalive_requests 1000000;
  keepalive_timeout 75s;
  client_max_body_size 0;
  proxy_request_buffering off;    # stream uploads, as the others do
  proxy_max_temp_file_size 0;     # never spill an answer to disk
  upstream origin {
    server 127.0.0.1:$ORIGIN_PORT;
    keepalive $POOL_IDLE;
    keepalive_requests 1000000;
  }
  proxy_http_version 1.1;
  proxy_set_header Connection "";
CONF
  [[ $PEER_CONFIG == bare ]] || cat <<CONF
  proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto \$scheme;
  proxy_set_header X-Forwarded-Host \$http_host;
  proxy_set_header X-Request-Id \$request_id;
  proxy_set_header Via "1.1 nginx";
CONF
  [[ ! $TLS ]] || cat <<CONF
  ssl_certificate $3/tls.pem;
  ssl_certificate_key $3/tls.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache off;          # sessions are resumed by tickets, which are on
  ssl_session_tickets on;
CONF
  [[ ! $AGGREGATE ]] || cat <<CONF
  js_import aggregator from $HERE/aggregator.js;
  log_format line escape=json '{"time":"\$time_iso8601","client":"\$remote_addr","method":"\$request_method","host":"\$http_host",'
    '"path":"\$uri","route":"report","status":\$status,"bytes_out":\$bytes_sent,"total_s":\$request_time,"request_id":"\$request_id"}';
CONF
  cat <<CONF
  server {
    listen 127.0.0.1:$1${TLS:+ ssl} reuseport backlog=4096;
    location / { proxy_pass http://origin; }
CONF
  [[ ! $TLS ]] || echo '    location = /health { default_type text/plain; return 200 "ok"; }'
  # The parts get a request id, as from the others, and none of the client's header fields.
  [[ ! $AGGREGATE ]] || cat <<CONF
    location ~ ^/report/(?<id>[^/]+)\$ {
      access_log $3/njs-access.log line buffer=64k flush=500ms;
      js_content aggregator.report;
    }
    location /part/ {
      internal;
      proxy_pass http://origin;
      proxy_pass_request_headers off;
      proxy_set_header Connection "";
      proxy_set_header X-Request-Id \$request_id;
      proxy_connect_timeout 1s;
      proxy_send_timeout 1s;
      proxy_read_timeout 1s;
    }
CONF
  local i p
  for ((i = 1; i <= RESOURCES; i++)); do
    p=/api/v1/res$i
    if [[ $PEER_CONFIG == bare ]]; then
      break
    elif [[ $PEER_CONFIG == tuned ]]; then
      cat <<CONF
    location = $p/list { proxy_pass http://origin; }
    location $p/ {
      location ~ ^$p/[^/]+\$ { proxy_pass http://origin; }
      location ~ ^$p/[^/]+/sub\$ { proxy_pass http://origin; }
      proxy_pass http://origin;
    }
CONF
    else
      cat <<CONF
    location = $p/list { proxy_pass http://origin; }
    location ~ ^$p/[^/]+\$ { proxy_pass http://origin; }
    location ~ ^$p/[^/]+/sub\$ { proxy_pass http://origin; }
CONF
    fi
  done
  printf '  }\n}\n'
}

haproxy_config() { # port workers tmp
  cat <<CONF
global
  nbthread $2
  maxconn $HAPROXY_CONNECTIONS
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 3s
  timeout client 60s
  timeout server 30s
  timeout http-request 10s
  timeout http-keep-alive 60s
frontend load
  bind 127.0.0.1:$1 backlog 4096${TLS:+ ssl crt $3/tls-both.pem alpn http/1.1 ssl-min-ver TLSv1.2}
CONF
  [[ ! $TLS ]] || echo '  http-request return status 200 content-type text/plain string ok if { path /health }'
  [[ $PEER_CONFIG == bare ]] || cat <<CONF
  option forwardfor
  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto http${TLS:+s}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header Via "1.1 haproxy"
CONF
  local i p
  if [[ $PEER_CONFIG == tuned ]]; then
    # One tree look-up of the longest prefix gives the resource; the rest of the path decides between its three routes.
    cat <<CONF
  http-request set-var(txn.res) path,map_beg($3/haproxy.map,none)
  acl resource var(txn.res) -m beg res
  acl list path -m end /list
  acl sub path -m end /sub
  use_backend origin if resource list
  use_backend origin if resource sub
  use_backend origin if resource
CONF
    for ((i = 1; i <= RESOURCES; i++)); do echo "/api/v1/res$i/ res$i"; done >"$3/haproxy.map"
  elif [[ $PEER_CONFIG == plain ]]; then
    for ((i = 1; i <= RESOURCES; i++)); do
      p=/api/v1/res$i
      cat <<CONF
  use_backend origin if { path $p/list }
  use_backend origin if { path_reg ^$p/[^/]+\$ }
  use_backend origin if { path_reg ^$p/[^/]+/sub\$ }
CONF
    done
  fi
  cat <<CONF
  default_backend origin
backend origin
  server origin 127.0.0.1:$ORIGIN_PORT
CONF
}
