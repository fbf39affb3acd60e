#!/usr/bin/env python3
"""Measurements that the load-test scripts take from outside of the proxies; Python's standard library only.

  probe.py cpu PID                     CPU time of the process tree so far, in ns (threads that ended included)
  probe.py rss PID                     resident memory of the process tree, in KiB
  probe.py verify NAME URL full|bare [CA]  asks each kind of route once, and checks what arrives upstream (full: with the
                                       headers that all of them are to add); an https URL needs the file of its authority
  probe.py aggregate NAME HOST:PORT TARGET ORIGIN full|bare [LOG]  checks that TARGET (/report/ or /part/user/) with an ID gives what
                                       the origin's parts make (full: and that each part got one request id); with a
                                       LOG, that it has one line more for each request
  probe.py token KEY                   makes a token that is signed with this P-256 key (PEM): ES256, good for a day
  probe.py filters NAME HOST:PORT full|bare [LOG]  checks that each kind of route asks for token and key, tells browsers who may
                                       read its answers, and clients of its limit (bare: none of that is done); with a
                                       LOG, that it has one line more for each request. HEADERS names a file of good ones
  probe.py wait HOST:PORT SECONDS PID  until something listens there; fails where that process ends before
  probe.py metric URL REGEX            sum of the metrics whose name and labels match; fails where there are none
  probe.py metrics URL REGEX           those metrics, one per line
  probe.py idle NAME PID HOST:PORT N [CA]  opens N keep-alive connections, one request each: a JSON line; with the file
                                       of an authority they are TLS
  probe.py stream NAME PID HOST:PORT BYTES  BYTES down, up, and up in chunks: a JSON line
  probe.py log FILE                    checks the last 5,000 lines of an access log: each is JSON; prints how many routes occur
"""
import base64
import collections
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ("user", "orders", "permissions")  # of an aggregation, in the order of its answer
HEAD = 1229  # size of a request's head with headers.txt, as profile.lua makes it
IDLE_SECONDS = 45  # below every proxy's keep-alive timeout


def tree(pid):
    """The process and all that descend from it."""
    pids, todo = [], [pid]
    while todo:
        pid = todo.pop()
        pids.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as f:
                    todo += map(int, f.read().split())
        except FileNotFoundError:
            pass
    return pids


def cpu_ns(pid):
    """The kernel's per-process CPU clock (clock_getcpuclockid): ns, where utime and stime have 10 ms steps."""
    return sum(time.clock_gettime_ns((~p << 3) | 2) for p in tree(pid))


def status_kib(pid, key):
    total = 0
    for p in tree(pid):
        with open(f"/proc/{p}/status") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith(key + ":"))
    return total


def rss_kib(pid):
    """From smaps_rollup: the figure in status is kept per CPU and may be off by half a MiB."""
    total = 0
    for p in tree(pid):
        with open(f"/proc/{p}/smaps_rollup") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Rss:"))
    return total


def reset_peak(pid):
    """From here on VmHWM is the peak since now."""
    for p in tree(pid):
        with open(f"/proc/{p}/clear_refs", "w") as f:
            f.write("5")


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait(where, seconds, pid):
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end and not ended(pid):
        try:
            socket.create_connection(address(where), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing listens on {where}")


def trust(ca):
    """Speaks TLS with whoever has a certificate of that authority; None is for HTTP without TLS."""
    return ssl.create_default_context(cafile=ca) if ca else None


def request_headers():
    """Those that wrk sends too."""
    with open(os.environ.get("HEADERS") or os.path.join(HERE, "headers.txt")) as f:
        return dict(line.rstrip("\n").split(": ", 1) for line in f)


def verify(name, url, work, ca=None):
    context, headers = trust(ca), request_headers()
    for path in ("/api/v1/res1/42", "/api/v1/res33/42/sub", "/api/v1/res17/list", "/assets/app.js"):
        with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=5, context=context) as answer:
            body = answer.read()
            if answer.status != 200 or len(body) != 128:
                sys.exit(f"{name}: {path} gave {answer.status} with {len(body)} bytes, not 200 with 128")
        request = urllib.request.Request(url + path + "?echo", headers=headers)
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            seen = answer.read().decode("latin-1").lower()
        if "authorization: bearer" not in seen:
            sys.exit(f"{name}: {path}: the request's own headers did not arrive upstream:\n{seen}")
        if work == "bare":
            continue
        for field in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "x-request-id"):
            if f"\r\n{field}: " not in seen:
                sys.exit(f"{name}: {path}: no {field} arrived upstream, so it would do less work than the others:\n{seen}")
        if f"\r\nx-forwarded-proto: {url.split(':')[0]}\r\n" not in seen:
            sys.exit(f"{name}: {path}: the upstream is not told the scheme:\n{seen}")
        if "connection: close" in seen:
            sys.exit(f"{name}: {path}: the upstream connection is not kept:\n{seen}")


def get(where, path, headers):
    """The head and the body of a 200."""
    with urllib.request.urlopen(urllib.request.Request(f"http://{where}{path}", headers=headers), timeout=5) as answer:
        if answer.status != 200:
            sys.exit(f"{where}{path} gave {answer.status}")
        return answer.headers, answer.read()


def in_order(text):
    """A JSON document in which the order of keys counts, and so does the text of numbers."""
    return json.loads(text, object_pairs_hook=lambda pairs: ("object", pairs), parse_int=str, parse_float=str)


def lines_of(path):
    if not os.path.exists(path):
        return 0
    with open(path, "rb") as f:
        return f.read().count(b"\n")


def aggregate(name, where, target, origin, work, log_file=""):
    headers = request_headers()
    before, asked = lines_of(log_file), 0
    for number in ("7", "1037", "4711x"):
        parts = {part: get(origin, f"/part/{part}/{number}", {})[1] for part in PARTS}
        for part, body in parts.items():
            if len(body) != 150 or number not in body.decode():
                sys.exit(f"origin: the part {part} is not 150 bytes about {number}: {body!r}")
        expected = ("object", [(part, in_order(body)) for part, body in parts.items()])
        if target != "/report/":
            expected = in_order(parts["user"])
        head, body = get(where, target + number, headers)
        asked += 1
        if in_order(body) != expected:
            sys.exit(f"{name}: {target}{number} gave {body!r}, which is not the object of {parts}")
        if head.get_content_type() != "application/json":
            sys.exit(f"{name}: {target}{number} is said to be {head.get_content_type()}")
    if work == "full":
        seen = json.loads(get(where, target + "echo", headers)[1])
        asked += 1
        heads = [seen["head"]] if target != "/report/" else [seen[part]["head"] for part in PARTS]
        ids = {id.lower() for head in heads for id in re.findall(r"(?i)\r\nx-request-id: *(\S+)\r\n", head)}
        if len(ids) != 1 or not all("x-request-id: " in head.lower() for head in heads):
            sys.exit(f"{name}: not one request id for all parts: {heads}")
        if target == "/report/" and any("authorization" in head.lower() for head in heads):
            sys.exit(f"{name}: the parts get header fields of the client that nobody passed on: {heads}")
        if any("connection: close" in head.lower() for head in heads):
            sys.exit(f"{name}: the upstream connections are not kept: {heads}")
    check_lines(name, log_file, before, asked)


def check_lines(name, log_file, before, asked):
    end = time.monotonic() + 5
    while log_file and lines_of(log_file) < before + asked and time.monotonic() < end:
        time.sleep(0.05)
    if log_file and lines_of(log_file) != before + asked:
        sys.exit(f"{name}: {lines_of(log_file) - before} log lines for {asked} requests")


def token(key):
    """RFC 7515 and 7518 3.4: openssl signs in DER, a token holds both numbers of the signature as they are."""
    def text(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    claims = {"iss": "https://id.example.com", "sub": "load-test", "aud": "load", "iat": now, "exp": now + 86400}
    parts = [{"alg": "ES256", "kid": "2026-01", "typ": "JWT"}, claims]
    signed = b".".join(text(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=signed, stdout=subprocess.PIPE, check=True).stdout
    numbers, at = b"", 2  # SEQUENCE and its length, then two INTEGERs
    for _ in range(2):
        length = der[at + 1]
        numbers += der[at + 2:at + 2 + length].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + length
    return (signed + b"." + text(numbers)).decode()


def filters(name, where, work, log_file=""):
    good, before, asked = request_headers(), lines_of(log_file), 0
    host, port = address(where)

    def ask(path, method="GET", **changed):
        """Status, head and body, of a request with good headers but for those `changed`; None leaves one out."""
        nonlocal asked
        headers = good | {key.replace("_", "-"): value for key, value in changed.items()}
        connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request(method, path, headers={key: value for key, value in headers.items() if value is not None})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        asked += 1
        return answer.status, answer.headers, body

    def want(what, is_so, *seen):
        if not is_so:
            sys.exit(f"{name}: {what}: {' '.join(map(str, seen))}")

    head = sum(len(key) + len(value) + 4 for key, value in good.items()) + len("GET /api/v1/res33/2221/sub HTTP/1.1\r\nHost: api.example.com\r\nCookie: session=\r\n\r\n")
    want(f"token and key make a head of more than {HEAD} bytes, so it is not that of head1k2", head <= HEAD, head)
    # Not the last character, of which some bits are not part of the signature.
    token = good["Authorization"]
    forged = token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:]
    for path in ("/api/v1/res1/42", "/api/v1/res33/42/sub", "/api/v1/res17/list", "/assets/app.js"):
        status, head, body = ask(path)
        want(f"{path} gave not 200 with 128 bytes", status == 200 and len(body) == 128, status, len(body))
        told = [head.get(field) for field in ("Access-Control-Allow-Origin", "RateLimit", "RateLimit-Policy", "X-Served-By")]
        if work == "bare":
            want(f"{path}: filters are on", told == [None] * 4, head)
            status, head, _ = ask(path, Authorization=forged, X_Api_Key="wrong")
            want(f"{path} asks for a token or key", status == 200, status)
            continue
        want(f"{path}: CORS, rate limit or header edit is missing", all(told) and told[0] == good["Origin"], head)
        want(f"{path}: caches are not told of Origin", "Origin" in (head.get("Vary") or ""), head)
        _, _, seen = ask(path + "?echo")
        seen = seen.decode("latin-1").lower()
        for field in ("x-user: load-test", "x-partner: acme", "x-gateway: ringway", "x-client-address: 127.0.0.1", "authorization: bearer"):
            want(f"{path}: no {field} arrived upstream", f"\r\n{field}" in seen, seen)
        for field in ("x-api-key", "x-client-version"):
            want(f"{path}: {field} arrived upstream", f"\r\n{field}:" not in seen, seen)
        for what, changed in (("a forged token", {"Authorization": forged}), ("no token", {"Authorization": None}),
                              ("a wrong key", {"X_Api_Key": "wrong"}), ("no key", {"X_Api_Key": None})):
            status, head, _ = ask(path, **changed)
            want(f"{path}: {what} gave not 401", status == 401, status)
            want(f"{path}: pages may not read a 401", head.get("Access-Control-Allow-Origin") == good["Origin"], head)
        status, head, _ = ask(path, Origin="https://evil.example.org")
        want(f"{path}: another origin may read it", status == 200 and head.get("Access-Control-Allow-Origin") is None, status, head)
        status, head, _ = ask(path, "OPTIONS", Authorization=None, X_Api_Key=None, Access_Control_Request_Method="GET")
        want(f"{path}: a preflight is not answered", status == 204 and "GET" in (head.get("Access-Control-Allow-Methods") or ""), status, head)
    check_lines(name, "" if log_file == "off" else log_file, before, asked)


def metrics(url, pattern):
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return [line for line in lines if not line.startswith("#") and re.match(pattern, line)]


def metric(url, pattern):
    found = metrics(url, pattern)
    if not found:
        sys.exit(f"{url} has no metric that matches {pattern}")
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in found))


def read_head(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            sys.exit(f"the connection was closed before an answer: {data!r}")
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(f"not a 200: {head.decode('latin-1')}")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
    return length, rest


def ask(sock, head, body=()):
    """One request; gives the length of the answer's body and its last bytes."""
    sock.sendall(head.encode())
    for piece in body:
        sock.sendall(piece)
    length, last = read_head(sock)
    left, space = length - len(last), bytearray(1 << 20)
    while left:
        n = sock.recv_into(space)
        if not n:
            sys.exit(f"the answer was cut, {left} bytes before its end")
        left -= n
        last = bytes(space[:n]) if length < len(space) else b""
    return length, last


def idle(name, pid, where, count, ca=None):
    pid, count, where, context = int(pid), int(count), address(where), trust(ca)

    def connect():
        sock = socket.create_connection(where)
        return context.wrap_socket(sock, server_hostname="load.test") if context else sock

    request = "GET /api/v1/res1/42 HTTP/1.1\r\nHost: idle.test\r\nAccept: */*\r\n\r\n"
    with connect() as warm:
        ask(warm, request)
    time.sleep(0.5)
    before, sockets, start = rss_kib(pid), [], time.monotonic()
    while len(sockets) < count:
        # The first must not have been idle for so long that it is closed: then there are fewer.
        if time.monotonic() - start > IDLE_SECONDS:
            print(f"  only {len(sockets)} of {count} connections could be opened in {IDLE_SECONDS} s", file=sys.stderr)
            break
        sock = connect()
        sockets.append(sock)
        ask(sock, request)
    time.sleep(1)
    after = rss_kib(pid)
    ask(sockets[0], request)  # still alive, the first as well as the last
    ask(sockets[-1], request)
    per = (after - before) / len(sockets)
    print(json.dumps({"proxy": name, "connections": len(sockets), "rss_before_kib": before, "rss_after_kib": after,
                      "kib_per_connection": round(per, 3)}))


def stream(name, pid, where, size):
    pid, size, result = int(pid), int(size), {"proxy": name, "bytes": int(size)}
    piece = bytes(1 << 20)
    chunk = b"%x\r\n" % len(piece) + piece + b"\r\n"

    def chunks():
        for _ in range(size // len(piece)):
            yield chunk
        yield b"0\r\n\r\n"

    def down(sock):
        got, _ = ask(sock, f"GET /api/v1/res1/42?bytes={size} HTTP/1.1\r\nHost: s.test\r\n\r\n")
        return got

    def up(sock):
        pieces = (piece for _ in range(size // len(piece)))
        _, said = ask(sock, f"POST /api/v1/res1/42 HTTP/1.1\r\nHost: s.test\r\nContent-Length: {size}\r\n\r\n", pieces)
        return json.loads(said)["received"]

    def up_chunked(sock):
        _, said = ask(sock, "POST /api/v1/res1/42 HTTP/1.1\r\nHost: s.test\r\nTransfer-Encoding: chunked\r\n\r\n", chunks())
        return json.loads(said)["received"]

    for run in (down, up, up_chunked):
        with socket.create_connection(address(where)) as sock:
            ask(sock, "GET /api/v1/res1/42 HTTP/1.1\r\nHost: s.test\r\n\r\n")
            time.sleep(0.2)
            before, cpu, start = rss_kib(pid), cpu_ns(pid), time.monotonic()
            reset_peak(pid)
            moved = run(sock)
            seconds = time.monotonic() - start
            if moved != size:
                sys.exit(f"{name}: {run.__name__}: {moved} of {size} bytes arrived")
            result[run.__name__] = {"rss_before_kib": before, "rss_growth_kib": status_kib(pid, "VmHWM") - before,
                                    "seconds": round(seconds, 2), "cpu_seconds": round((cpu_ns(pid) - cpu) / 1e9, 2)}
    print(json.dumps(result))


def log(path):
    with open(path, "rb") as f:
        f.seek(max(0, os.path.getsize(path) - (4 << 20)))
        lines = f.read().split(b"\n")[1:-1][-5000:]
    routes = collections.Counter()
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            sys.exit(f"{path}: this line is not JSON: {line!r}")
        routes[entry.get("route")] += 1
    print(len(routes))


def main():
    command, args = (sys.argv + [""])[1], sys.argv[2:]
    if command == "cpu":
        print(cpu_ns(int(args[0])))
    elif command == "rss":
        print(rss_kib(int(args[0])))
    elif command == "metric":
        print(metric(*args))
    elif command == "metrics":
        print("\n".join(metrics(*args)))
    elif command == "token":
        print(token(*args))
    elif command in ("verify", "aggregate", "filters", "wait", "idle", "stream", "log"):
        globals()[command](*args)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
