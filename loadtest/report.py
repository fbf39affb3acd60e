#!/usr/bin/env python3
"""Turns what compare.sh measured into tables, charts and JSON; Python's standard library only.

  report.py line FILE           one run, for the terminal
  report.py rate FILE PERCENT   that share of what the slowest of ringway and nginx (or of all) did per second
  report.py urls BASE           the paths of profile.lua, for oha
  report.py oha JSON RATE       fails where oha saw errors
  report.py write RAW OUT       results/<profile>.md and .svg, overview.svg, memory.md, latest.json;
                                of a run with --tls tls-<profile>, tls-handshakes and tls-memory; with --aggregate aggregate,
                                with --filters filters
"""
import collections
import glob
import json
import os
import re
import statistics
import sys
from xml.sax.saxutils import escape

TITLES = {
    "head1k2": "1.2 KiB request heads, 128-byte answers",
    "head60": "60-byte request heads, 128-byte answers",
    "body256k": "1.2 KiB request heads, 256 KiB answers",
}
TLS_TITLES = {"tls-" + profile: title + ", over TLS" for profile, title in TITLES.items()}
HANDSHAKE_TITLES = {"tls-handshake-full": "Full handshakes", "tls-handshake-resumed": "Resumed handshakes"}
AGGREGATE_TITLES = {"aggregate": "One answer from three upstream calls"}
FILTER_TITLES = {"filters": "A forward with token, key, limit, CORS and header edits"}
NAMES = {"ringway": "ringway", "ringway1": "ringway, 1 worker", "base": "ringway before", "forward": "ringway's forward", "nolog": "forward, no log",
         "go": "Go", "njs": "nginx with njs", "nginx": "nginx", "haproxy": "HAProxy", "fanout": "bare fan-out", "relay": "bare relay"}
# CPU per request of ringway, as a share of the other's, that must not be exceeded (64 connections, 1 worker).
BARS = {
    "head1k2": {"nginx": 0.85, "haproxy": 0.90, "relay": 1.35},
    "head60": {"nginx": 0.85, "haproxy": 0.78, "relay": 1.25},
    "body256k": {"haproxy": 0.90},
    "tls-head1k2": {"nginx": 0.90, "haproxy": 0.90},
}
# The same for an answer from three upstream calls, at any number of connections.
AGGREGATE_BARS = {"forward": 2.6, "go": 0.25, "njs": 0.5, "fanout": 1.6}
# The same for a forward with all those filters on. "Below" is below: nginx does nothing but forward.
FILTER_BARS = {"forward": 1.15, "nginx": 1.0}
BELOW = {("filters", "nginx")}
# What else that report compares: what three calls cost over one before anything is done with them, and how far the others are off.
AGGREGATE_PAIRS = [("fanout", "relay"), ("forward", "relay"), ("forward", "fanout"), ("go", "fanout"), ("njs", "fanout")]
# Handshakes per CPU second of ringway, as a share of the other's, that must be reached.
HANDSHAKE_BARS = {"tls-handshake-full": {"nginx": 0.90}, "tls-handshake-resumed": {"nginx": 1.20}}
BAR_CONNECTIONS = 64
BAR_WORKERS = 1.05
BAR_IDLE_KIB = 4.0
BAR_TLS_IDLE_KIB = 12.0
BAR_STREAM_KIB = 2048
GOOD, BAD = "🟢", "🔴"


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0], values[0]
    q1, q2, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return q1, q2, q3


def mark(value, bar):
    return GOOD if value <= bar else BAD


def bar_text(run, other, ratio):
    """A bar, and whether it holds; in words too, where a report is not only looked at."""
    if "bar" not in ratio:
        return ""
    sign = "<" if (run["profile"], other) in BELOW else "≤"
    word = (" ok" if ratio["ok"] else " RED") if run["profile"] in AGGREGATE_TITLES | FILTER_TITLES else ""
    return f"{sign} {ratio['bar']:.2f} {GOOD if ratio['ok'] else BAD}{word}"


def read_tsv(path):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [line.rstrip("\n").split("\t") for line in f]


def run_of(base):
    """One run (a profile at a number of connections and workers) with its figures."""
    profile, connections, workers = re.fullmatch(r"([\w-]+)-c(\d+)-w(\d+)", os.path.basename(base)).groups()
    run = {"profile": profile, "connections": int(connections), "workers": int(workers)}
    rounds = collections.defaultdict(dict)
    for number, name, requests, micros, cpu in read_tsv(base + ".tsv"):
        rounds[int(number)][name] = (int(cpu) / 1000 / int(requests), int(requests) * 1e6 / int(micros))
    names = list(dict.fromkeys(name for r in sorted(rounds) for name in sorted(rounds[r], key=list(NAMES).index)))
    run["rounds"] = len(rounds)
    run["proxies"] = {}
    for name in names:
        cpu = [r[name][0] for r in rounds.values()]
        q1, q2, q3 = quartiles(cpu)
        run["proxies"][name] = {
            "cpu_us": round(q2, 3), "cpu_us_q1": round(q1, 3), "cpu_us_q3": round(q3, 3),
            "requests_per_second": round(statistics.median(r[name][1] for r in rounds.values())),
            "cpu_us_rounds": [round(c, 3) for c in cpu],
        }
    for name, kib in read_tsv(base + ".rss"):
        run["proxies"][name]["rss_kib"] = int(kib)
    # Ratios are taken in each round, of parts that ran within seconds of each other; then their median.
    subject = next((name for name in ("ringway", "fanout") if name in names), names[0])

    def ratio_of(one, other):
        q1, q2, q3 = quartiles([r[one][0] / r[other][0] for r in rounds.values()])
        return {"median": round(q2, 4), "q1": round(q1, 4), "q3": round(q3, 4)}

    run["subject"], run["ratios"] = subject, {}
    for other in names:
        if other == subject:
            continue
        ratio = ratio_of(subject, other)
        q2, bar = ratio["median"], None
        if subject == "ringway" and run["connections"] == BAR_CONNECTIONS:
            bar = BAR_WORKERS if other == "ringway1" else BARS.get(profile, {}).get(other) if run["workers"] == 1 else None
        if subject == "ringway" and profile in AGGREGATE_TITLES:
            bar = AGGREGATE_BARS.get(other)
        if subject == "ringway" and profile in FILTER_TITLES:
            bar = FILTER_BARS.get(other)
        if bar:
            ratio["bar"], ratio["ok"] = bar, q2 < bar if (profile, other) in BELOW else q2 <= bar
        run["ratios"][other] = ratio
    if profile in AGGREGATE_TITLES:
        run["pairs"] = [{"one": one, "other": other, **ratio_of(one, other)}
                        for one, other in AGGREGATE_PAIRS if one in names and other in names]
        run["skipped"] = dict(read_tsv(os.path.join(os.path.dirname(base), "skipped.tsv")))
    latency = collections.defaultdict(list)
    for path in sorted(glob.glob(glob.escape(base) + ".oha.*.json")):
        with open(path) as f:
            latency[path.split(".")[-3]].append(json.load(f))
    run["latency"] = {}
    for name, passes in latency.items():
        entry = {"passes": len(passes),
                 "requests_per_second": round(statistics.median(p["summary"]["requestsPerSec"] for p in passes))}
        for percentile in ("p50", "p99", "p99.9"):
            entry[percentile + "_us"] = round(statistics.median(p["latencyPercentiles"][percentile] for p in passes) * 1e6, 1)
        run["latency"][name] = entry
    if run["latency"]:
        run["latency_rate"] = int(rate(base))
    spreads = [sorted(float(n) for n in row[0].split()) for row in read_tsv(base + ".spread")]
    run["spread"] = [[round(n) for n in s] for s in spreads]
    run["log"] = [dict(zip(("proxy", "lines", "requests", "answers", "dropped"), row)) for row in read_tsv(base + ".log")]
    return handshakes_of(run, base) if profile in HANDSHAKE_TITLES else run


def handshakes_of(run, base):
    """What is counted are handshakes: how many a CPU second gives, beside the other's, and of which kind they were."""
    subject, run["per_cpu_second"] = run["subject"], {}
    for other in run["ratios"]:
        parts = zip(run["proxies"][subject]["cpu_us_rounds"], run["proxies"][other]["cpu_us_rounds"])
        q1, q2, q3 = quartiles([other_us / subject_us for subject_us, other_us in parts])
        ratio = {"median": round(q2, 4), "q1": round(q1, 4), "q3": round(q3, 4)}
        bar = HANDSHAKE_BARS[run["profile"]].get(other) if subject == "ringway" else None
        if bar:
            ratio["bar"], ratio["ok"] = bar, q2 >= bar
        run["per_cpu_second"][other] = ratio
    run["kinds"] = {name: dict.fromkeys(("full", "resumed", "tickets"), 0) for name in run["proxies"]}
    for name, *counts in read_tsv(base + ".kinds"):
        for kind, count in zip(run["kinds"][name], counts):
            run["kinds"][name][kind] += int(count)
    return run


def rate(base, percent=None):
    """The request rate of the latency passes; remembered, so that the report says what was asked for."""
    path = base + ".rate"
    if percent is None:
        with open(path) as f:
            return f.read()
    run = run_of(base)["proxies"]
    slowest = [p["requests_per_second"] for name, p in run.items() if name in ("ringway", "nginx")]
    slowest = slowest or [p["requests_per_second"] for p in run.values()]
    value = str(int(min(slowest) * float(percent) / 100))
    with open(path, "w") as f:
        f.write(value)
    return value


def urls(base):
    print(base + "/assets/app.js")
    for i in range(1, 34):
        for path in (f"{1000 + i * 37}", f"{1000 + i * 37}/sub", "list"):
            print(f"{base}/api/v1/res{i}/{path}")


def check_oha(path, wanted):
    with open(path) as f:
        result = json.load(f)
    errors = {k: v for k, v in result["errorDistribution"].items() if "deadline" not in k}
    if errors or set(result["statusCodeDistribution"]) != {"200"}:
        sys.exit(f"oha saw {errors or result['statusCodeDistribution']}")
    reached = result["summary"]["requestsPerSec"]
    if reached < 0.97 * float(wanted):
        print(f"  warning: oha reached only {reached:.0f} of {wanted} requests/s: its latencies say little", file=sys.stderr)


def table(header, rows):
    return "\n".join(["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
                     + ["| " + " | ".join(row) + " |" for row in rows])


def cpu_table(run):
    rows = [[NAMES[n], f"{p['cpu_us']:.2f}", f"{p['cpu_us_q1']:.2f} … {p['cpu_us_q3']:.2f}",
             f"{p['requests_per_second']:,}", f"{p['rss_kib'] / 1024:.1f}" if "rss_kib" in p else ""]
            for n, p in run["proxies"].items()]
    rows += [[NAMES[name], f"skipped: {why}", "", "", ""] for name, why in run.get("skipped", {}).items()]
    return table(["proxy", "CPU µs per request, median", "quartiles", "requests/s, median", "RSS after, MiB"], rows)


def ratio_table(run):
    rows = []
    for other, r in run["ratios"].items():
        rows.append([f"{NAMES[run['subject']]} / {NAMES[other]}", f"{r['median']:.3f}", f"{r['q1']:.3f} … {r['q3']:.3f}",
                     bar_text(run, other, r)])
    if run["subject"] == "ringway":
        rows += [[f"ringway / {NAMES[name]}", f"skipped: {why}", "", ""] for name, why in run.get("skipped", {}).items()]
    for r in run.get("pairs", []):
        if r["one"] != run["subject"]:
            rows.append([f"{NAMES[r['one']]} / {NAMES[r['other']]}", f"{r['median']:.3f}", f"{r['q1']:.3f} … {r['q3']:.3f}", ""])
    return table(["CPU per request", "median of per-round ratios", "quartiles", "bar"], rows)


def latency_table(run):
    nginx, rows = run["latency"].get("nginx"), []
    for name in run["proxies"]:
        entry = run["latency"].get(name)
        if not entry:
            continue
        tail = f"{entry['p99.9_us']:,.0f}"
        if name == "ringway" and nginx:
            tail += f" {mark(entry['p99.9_us'], nginx['p99.9_us'])} (bar: nginx)"
        rows.append([NAMES[name], f"{entry['requests_per_second']:,}", f"{entry['p50_us']:,.0f}", f"{entry['p99_us']:,.0f}", tail])
    return table(["latency", "requests/s reached", "p50 µs", "p99 µs", "p99.9 µs"], rows)


def run_text(run):
    workers = "1 worker" if run["workers"] == 1 else f"{run['workers']} workers"
    parts = [f"## {run['connections']} connections, {workers}", ratio_table(run), cpu_table(run)]
    if run["latency"]:
        passes = max(e["passes"] for e in run["latency"].values())
        parts += [f"At {run['latency_rate']:,} requests/s for each, latency-corrected, median of {passes} alternating passes:",
                  latency_table(run)]
    if run["spread"]:
        worst = max(run["spread"], key=lambda s: s[-1] - s[0])
        median = sorted(run["spread"], key=lambda s: s[-1] - s[0])[len(run["spread"]) // 2]
        parts.append(f"Connections per worker of ringway in the middle of a round: {' / '.join(map(str, median))} in the median "
                     f"round, {' / '.join(map(str, worst))} in the worst.")
    return "\n\n".join(parts + log_texts(run))


def log_texts(run):
    texts = []
    for log in run["log"]:
        if log["requests"]:
            seen = f"{int(log['requests']):,} requests, {log['dropped']} dropped"
        else:
            seen = f"{int(log['answers']):,} answers that its clients saw, and the requests they left unanswered"
        texts.append(f"Access log of {NAMES[log['proxy']]}: {int(log['lines']):,} lines for {seen}.")
    return texts


def handshake_text(run):
    rows = [[f"{NAMES[run['subject']]} / {NAMES[other]}", f"{r['median']:.3f}", f"{r['q1']:.3f} … {r['q3']:.3f}",
             f"≥ {r['bar']:.2f} {mark(r['bar'], r['median'])}" if "bar" in r else ""] for other, r in run["per_cpu_second"].items()]
    parts = [f"## {HANDSHAKE_TITLES[run['profile']]}, {run['connections']} at a time",
             table(["handshakes per CPU second", "median of per-round ratios", "quartiles", "bar"], rows)]
    rows = []
    for name, p in run["proxies"].items():
        kinds = run["kinds"][name]
        count = kinds["full"] + kinds["resumed"]
        rows.append([NAMES[name], f"{p['cpu_us']:.1f}", f"{p['cpu_us_q1']:.1f} … {p['cpu_us_q3']:.1f}", f"{1e6 / p['cpu_us']:,.0f}",
                     f"{count:,}", f"{100 * kinds['resumed'] / count:.2f} %", f"{kinds['tickets'] / count:.2f}",
                     f"{p['rss_kib'] / 1024:.1f}" if "rss_kib" in p else ""])
    parts.append(table(["proxy", "CPU µs per connection, median", "quartiles", "per CPU second", "connections", "resumed",
                        "tickets given to each", "RSS after, MiB"], rows))
    return "\n\n".join(parts + log_texts(run))


def meta_text(meta):
    peers = {"tuned": "with the same work on, routes as an expert writes them",
             "plain": "with the same work on, one rule per route, as they are usually written",
             "bare": "bare: no routes, no headers added, so less work than ringway does"}[meta["peers"]]
    tls = f"- Clients speak HTTPS, the origin does not. All negotiate with a client that leaves them the choice: {meta.get('tls')}."
    lines = [
        f"- `{meta['command']}` (seed {meta['seed']}, {meta['rounds']} shuffled rounds)",
        f"- {meta['date']}, commit {meta['commit']}, {meta['kernel']}, {meta['cpu']}, {meta['pinning']}"]
    if "aggregate" in meta:
        return "\n".join(lines + [
            f"- {meta['versions']}",
            "- `GET /report/{id}` with a 1.2 KiB head; three upstream calls, each answered with a JSON object of 150 bytes; one object of the "
            "three back. All gave the same document before they were measured. ringway, Go and njs validate the parts, have deadlines and "
            "write a JSON access log into a file; the fan-out and the relay do none of that. ringway's forward and the relay are asked for one "
            "of the parts.",
            "- Only the ratios mean something on another machine."])
    if "filters" in meta:
        return "\n".join(lines + [
            f"- {meta['versions']}; nginx {peers} (`--peers {meta['peers']}`)",
            "- The requests of head1k2 with a token, an API key and an Origin in their heads of 1.2 KiB; all get the very same bytes. ringway checks "
            "the token (ES256, made for this run; it remembers good ones) and tells the upstream who it is about, looks up the key and takes it "
            "out, counts a rate limit and tells of it, answers for CORS, sets and removes fields of requests and answers, and writes its JSON "
            "access log. ringway's forward does nothing but forward and write that log; nginx forwards, without a log.",
            "- All were asked with good, forged and missing tokens and keys before they were measured, and the filters counted every request. "
            "Only the ratios mean something on another machine."])
    return "\n".join(lines + [
        f"- {meta['versions']}; nginx and HAProxy {peers} (`--peers {meta['peers']}`)",
        "- ringway writes its JSON access log, nginx and HAProxy write none. Only the ratios mean something on another machine.",
    ] + ([tls] if "tls" in meta else []))


# --- the chart: a card with its own background, so that it reads on a light and on a dark page ----------------------------

STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de; } .title { fill: #1f2328; font-weight: 600; font-size: 16px; }
  .text { fill: #1f2328; font-size: 13px; } .soft { fill: #59636e; font-size: 12px; }
  .strong { font-weight: 600; } .track { fill: #eff2f5; } .other { fill: #8c96a3; } .floor { fill: #c4ccd5; }
  .ringway { fill: #0f766e; } .whisker { stroke: #1f2328; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d; } .title, .text { fill: #f0f6fc; } .soft { fill: #9198a1; }
    .track { fill: #1c2128; } .other { fill: #6e7681; } .floor { fill: #444c56; } .ringway { fill: #2dd4bf; }
    .whisker { stroke: #f0f6fc; }
  }
"""


def chart(title, subtitle, panels):
    """Horizontal bars. `panels`: (heading, note, [(name, value, q1, q3, label, ratio)])."""
    width, left, bar_right, row = 820, 132, 560, 28
    height = 74 + sum(46 + row * len(bars) for _, _, bars in panels) + 6
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           'font-family="system-ui, -apple-system, \'Segoe UI\', \'DejaVu Sans\', sans-serif" role="img">',
           f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>",
           f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
           f'<text class="title" x="20" y="31">{escape(title)}</text>',
           f'<text class="soft" x="20" y="51">{escape(subtitle)}</text>']
    y = 74
    for heading, note, bars in panels:
        scale = (bar_right - left) / (max(max(value, q3) for _, value, _, q3, _, _ in bars) or 1)
        out.append(f'<text class="text strong" x="20" y="{y + 16}">{escape(heading)}</text>')
        out.append(f'<text class="soft" x="{width - 20}" y="{y + 16}" text-anchor="end">{escape(note)}</text>')
        y += 28
        for name, value, q1, q3, label, ratio in bars:
            kind = {"ringway": "ringway", "ringway1": "ringway", "base": "ringway", "forward": "ringway", "nolog": "ringway", "fanout": "floor", "relay": "floor"}.get(name, "other")
            strong, middle = " strong" if name == "ringway" else "", y + row / 2
            end = left + value * scale
            out += [f'<text class="text{strong}" x="{left - 10}" y="{middle + 4.5}" text-anchor="end">{escape(NAMES[name])}</text>',
                    f'<rect class="track" x="{left}" y="{y + 4}" width="{bar_right - left}" height="{row - 8}" rx="3"/>',
                    f'<rect class="{kind}" x="{left}" y="{y + 4}" width="{end - left:.1f}" height="{row - 8}" rx="3"/>',
                    f'<line class="whisker" x1="{left + q1 * scale:.1f}" x2="{left + q3 * scale:.1f}" y1="{middle}" y2="{middle}"/>',
                    f'<text class="text{strong}" x="{bar_right + 14}" y="{middle + 4.5}">{escape(label)}</text>',
                    f'<text class="soft" x="{width - 20}" y="{middle + 4.5}" text-anchor="end">{escape(ratio)}</text>']
            y += row
        y += 18
    return "\n".join(out + ["</svg>", ""])


def panel(run, heading):
    bars, subject = [], run["subject"]
    for name, p in run["proxies"].items():
        ratio = f"{NAMES[subject]} takes {run['ratios'][name]['median']:.2f} ×" if name in run["ratios"] else ""
        bars.append((name, p["cpu_us"], p["cpu_us_q1"], p["cpu_us_q3"], f"{p['cpu_us']:.1f} µs", ratio))
    return heading, f"{run['rounds']} rounds, line: quartiles", bars


def chart_subtitle(meta):
    if "aggregate" in meta:
        return ("Shorter is better. ringway, Go and njs write a JSON access log. Forward and relay: one call. "
                f"{meta['kernel']}, {meta['date'][:10]}.")
    if "filters" in meta:
        return ("Shorter is better. ringway and its forward write a JSON access log. Only ringway has filters. "
                f"{meta['kernel']}, {meta['date'][:10]}.")
    log = "ringway with its JSON access log on, nginx and HAProxy with theirs off. " if "ringway" in meta["versions"] else ""
    return f"Shorter is better. {log}{meta['kernel']}, {meta['date'][:10]}."


def memory_text(memory, meta):
    bar, over = (BAR_TLS_IDLE_KIB, " over TLS") if "tls" in meta else (BAR_IDLE_KIB, "")
    parts = ["# Memory" + over, meta_text(meta)]
    if memory.get("idle"):
        rows = [[NAMES[m["proxy"]], f"{m['connections']:,}", f"{m['rss_before_kib'] / 1024:.1f}", f"{m['rss_after_kib'] / 1024:.1f}",
                 f"{m['kib_per_connection']:.2f}" + (f" {mark(m['kib_per_connection'], bar)} (bar: {bar:.0f})"
                                                     if m["proxy"] == "ringway" else "")] for m in memory["idle"]]
        parts.append(table(["idle keep-alive connections" + over, "connections", "RSS before, MiB", "after, MiB", "KiB per connection"], rows))
    if memory.get("stream"):
        rows = []
        for m in memory["stream"]:
            cells = []
            for way in ("down", "up", "up_chunked"):
                text = f"{m[way]['rss_growth_kib']:,} KiB"
                if m["proxy"] == "ringway":
                    text += f" {GOOD if m[way]['rss_growth_kib'] < BAR_STREAM_KIB else BAD}"
                cells.append(f"{text}, {m[way]['cpu_seconds']:.2f} s CPU")
            rows.append([NAMES[m["proxy"]], f"{m['bytes'] / (1 << 30):.2f}"] + cells)
        parts.append(table(["growth of RSS at its peak (bar for ringway: under 2 MiB)", "GiB", "down", "up", "up, chunked"], rows))
    return "\n\n".join(parts) + "\n"


def write_handshakes(runs, meta, out):
    if not runs:
        return
    panels = [panel(run, f"{HANDSHAKE_TITLES[run['profile']]}, {run['connections']} at a time") for run in runs]
    with open(os.path.join(out, "tls-handshakes.svg"), "w") as f:
        f.write(chart("CPU per TLS 1.3 connection: handshake, one small answer, close", chart_subtitle(meta), panels))
    text = ["# TLS handshakes", meta_text(meta), "A connection is TCP, a TLS 1.3 handshake (ECDSA P-256, X25519), one GET that the "
            "proxy answers itself, close_notify and FIN: all of that is in the CPU time.", "![CPU per connection](tls-handshakes.svg)"]
    with open(os.path.join(out, "tls-handshakes.md"), "w") as f:
        f.write("\n\n".join(text + [handshake_text(run) for run in runs]) + "\n")


def write(raw, out):
    meta = dict(read_tsv(os.path.join(raw, "meta.tsv")))
    latest_path = os.path.join(out, "latest.json")
    latest = {}
    if os.path.exists(latest_path):
        with open(latest_path) as f:
            latest = json.load(f)
    runs = [run_of(path[:-4]) for path in sorted(glob.glob(os.path.join(glob.escape(raw), "*-c*-w*.tsv")))]
    by_file = collections.defaultdict(list)
    for run in sorted(runs, key=lambda r: -r["connections"]):
        by_file[run["profile"] + ("" if run["workers"] == 1 else f"-w{run['workers']}")].append(run)
        name = f"{run['profile']}-c{run['connections']}-w{run['workers']}"
        latest.setdefault("runs", {})[name] = {"meta": meta, **run}
    write_handshakes([by_file.pop(profile)[0] for profile in HANDSHAKE_TITLES if profile in by_file], meta, out)
    for name, group in by_file.items():
        title = (TITLES | TLS_TITLES | AGGREGATE_TITLES | FILTER_TITLES)[group[0]["profile"]]
        with open(os.path.join(out, name + ".svg"), "w") as f:
            panels = [panel(r, f"{r['connections']} keep-alive connections" + (f", {r['workers']} workers" if r["workers"] > 1 else ""))
                      for r in group]
            f.write(chart("CPU per request: " + title[0].lower() + title[1:], chart_subtitle(meta), panels))
        with open(os.path.join(out, name + ".md"), "w") as f:
            f.write("\n\n".join([f"# {title}", meta_text(meta), f"![CPU per request]({name}.svg)"] + [run_text(r) for r in group]) + "\n")
    memory, tls = {}, "tls-" if "tls" in meta else ""
    for kind in ("idle", "stream"):
        path = os.path.join(raw, f"{tls}{kind}.jsonl")
        if os.path.exists(path):
            with open(path) as f:
                memory[kind] = [json.loads(line) for line in f]
    if memory:
        latest[tls + "memory"] = {"meta": meta, **memory}
        text = memory_text(memory, meta)
        with open(os.path.join(out, tls + "memory.md"), "w") as f:
            f.write(text)
        print(text)
    panels = []
    for profile, title in TITLES.items():
        keys = [k for k in latest.get("runs", {}) if k.startswith(profile + "-c") and k.endswith("-w1")]
        if keys:
            run = latest["runs"][max(keys, key=lambda k: latest["runs"][k]["connections"])]
            panels.append((run, panel(run, f"{title} ({run['connections']} connections)")))
    if panels:
        with open(os.path.join(out, "overview.svg"), "w") as f:
            f.write(chart("CPU per forwarded request, one core", chart_subtitle(panels[0][0]["meta"]), [p for _, p in panels]))
    with open(latest_path, "w") as f:
        json.dump(latest, f, indent=1, ensure_ascii=False)
        f.write("\n")
    print("written: " + " ".join(sorted(os.listdir(out))))


def main():
    command, args = (sys.argv + [""])[1], sys.argv[2:]
    if command == "line":
        run = run_of(args[0])
        print((handshake_text if run["profile"] in HANDSHAKE_TITLES else run_text)(run) + "\n")
    elif command == "rate":
        print(rate(*args))
    elif command == "oha":
        check_oha(*args)
    elif command in ("urls", "write"):
        globals()[command](*args)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
