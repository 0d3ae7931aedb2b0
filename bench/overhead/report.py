"""How is a result told: a table of medians with their spread, the aims, a chart, and everything as JSON?"""

import json
import math
import statistics
from xml.sax.saxutils import escape

# Name, title, how it is read from one turn (and from the same round's turn without a gateway), digits.
VALUES = [
    ("rate", "requests/s at p99 < {p99} ms", lambda turn, direct: turn["search"]["rate"], 0),
    ("per_cpu_second", "requests per processor second", lambda turn, direct: turn["busy"]["per_cpu_second"], 0),
    ("cpu_us", "processor time per request, µs", lambda turn, direct: turn["busy"]["cpu_us_per_request"], 0),
    ("stream_cpu_us", "processor time per stream of {tokens} events, µs", lambda turn, direct: turn["busy_streams"]["cpu_us_per_request"], 0),
    ("added_p50_ms", "added p50, ms", lambda turn, direct: turn["latency"]["end_ms"]["p50"] - direct["latency"]["end_ms"]["p50"], 2),
    ("added_p99_ms", "added p99, ms", lambda turn, direct: turn["latency"]["end_ms"]["p99"] - direct["latency"]["end_ms"]["p99"], 2),
    ("added_ttft_p50_ms", "added first token p50, ms", lambda turn, direct: turn["streams"]["first_ms"]["p50"] - direct["streams"]["first_ms"]["p50"], 2),
    ("added_ttft_p99_ms", "added first token p99, ms", lambda turn, direct: turn["streams"]["first_ms"]["p99"] - direct["streams"]["first_ms"]["p99"], 2),
    ("idle_pss_mib", "memory idle (PSS), MiB", lambda turn, direct: turn["idle"]["pss_mib"], 1),
    ("idle_own_mib", "of that its own, and not its program's file, MiB", lambda turn, direct: turn["idle"]["own_mib"], 1),
    ("streams_pss_mib", "memory under {streams} open streams (PSS), MiB", lambda turn, direct: turn["open_streams"]["pss_mib"], 1),
    ("streams_rss_mib", "the same as RSS, MiB", lambda turn, direct: turn["open_streams"]["rss_mib"], 1),
]


def write(result, path):
    path.with_suffix(".json").write_text(json.dumps(result, indent=1))
    path.with_suffix(".md").write_text(text(result, path.name))
    path.with_suffix(".svg").write_text(chart(result))


def text(result, name):
    definition, contenders = result["definition"], named(result)
    loads = [one["load_average"] for one in result["rounds"]]
    words = {"p99": definition["search"]["p99_ms"], "tokens": definition["order"]["tokens"] + 4, "streams": definition["memory"]["streams"]}
    lines = [
        f"# {definition['title']}, {result['date']}",
        "",
        f"Machine: {result['machine']}; commit {result['commit']}; {len(result['rounds'])} rounds, contenders in turn, a fresh process each; load average {min(loads):.1f} to {max(loads):.1f} at",
        f"the rounds' starts. The gateway has one core, stand-in and load generator the other. Prompts of {definition['order']['prompt_bytes']} bytes, answers of {definition['order']['tokens']} tokens; "
        "each answer's text and usage are checked, and a wrong one has no time.",
        "Medians of the rounds, with lowest and highest. Definition: `bench/overhead/overhead.toml`; again with `bench/overhead/run`.",
        "",
        "| | " + " | ".join(title for _, title in contenders) + " |",
        "|---|" + "---|" * len(contenders),
    ]
    for key, title, _, digits in VALUES:
        cells = [cell(values(result, contender, key), digits) for contender, _ in contenders]
        lines.append(f"| {title.format(**words)} | " + " | ".join(cells) + " |")
    lines += ["", *harness(result), "", *aims(result), "", f"![requests per processor second and at p99 below the limit]({name}.svg)", "", "How each ran:", ""]
    for contender, title in contenders:
        lines.append(f"- **{title}** {result['versions'].get(contender, '')}: {result['settings'].get(contender, 'did not start')}.")
    lines += ["", *wrong(result), *books(result)]
    return "\n".join(lines).rstrip() + "\n"


def named(result):
    """Contenders that had a turn, with their titles."""
    ran = {name for one in result["rounds"] for name in one["contenders"]}
    return [(contender["name"], contender["title"]) for contender in result["definition"]["contender"] if contender["name"] in ran]


def values(result, contender, key):
    read = next(read for name, _, read, _ in VALUES if name == key)
    found = []
    for one in result["rounds"]:
        try:
            found.append(read(one["contenders"][contender], one["contenders"].get("direct")))
        except (KeyError, TypeError):
            # Not measured in this round, or it had no right answer and so no time.
            found.append(None)
    return found


def cell(found, digits):
    there = [value for value in found if value is not None]
    if not there:
        return "-"
    middle = f"{statistics.median(there):,.{digits}f}"
    return middle if len(there) == 1 else f"{middle} ({min(there):,.{digits}f} to {max(there):,.{digits}f})"


def harness(result):
    """Says what the harness itself can do, so that nobody takes its limit for a gateway's."""
    turns = [one["contenders"]["direct"] for one in result["rounds"] if "busy" in one["contenders"].get("direct", {})]
    if not turns:
        return []
    reached = statistics.median(turn["busy"]["per_second"] for turn in turns)
    whole = statistics.median(turn["latency"]["end_ms"]["p50"] for turn in turns)
    tail = statistics.median(turn["latency"]["end_ms"]["p99"] for turn in turns)
    first = statistics.median(turn["streams"]["first_ms"]["p50"] for turn in turns)
    return [f"Without a gateway: {reached:,.0f} requests/s in a closed loop; p50 {whole:.2f} ms, p99 {tail:.2f} ms, first token p50 {first:.2f} ms at the constant rates. What is *added* is measured against that, round by round."]


def aims(result):
    lines = []
    for aim in result["definition"].get("aim", []):
        of = values(result, aim["of"], aim["value"])
        if "over" in aim:
            pairs = zip(of, values(result, aim["over"], aim["value"]), strict=True)
            # A peer that bears no rate at all is beaten by any factor; that says nothing as a number.
            of = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
        of = [value for value in of if value is not None]
        if not of:
            lines.append(f"- not measured: {aim['text']}")
            continue
        middle = statistics.median(of)
        kept = aim.get("at_least", -math.inf) <= middle <= aim.get("at_most", math.inf)
        lines.append(f"- {'kept' if kept else '**not kept**'}: {aim['text']}: {cell(of, 2)}")
    return lines


def wrong(result):
    """Every wrong answer, by contender and phase: a gateway that fails under load must not look fast."""
    lines = []
    for contender in ["direct", *[name for name, _ in named(result)]]:
        for number, one in enumerate(result["rounds"]):
            turn = one["contenders"].get(contender, {})
            if "failed" in turn:
                lines.append(f"- {contender}, round {number + 1}: no turn: {turn['failed'].splitlines()[0]}")
            for phase in ["latency", "streams", "busy", "busy_streams", "open_streams"]:
                errors = turn.get(phase, {}).get("errors", {})
                if errors:
                    worst = max(errors.items(), key=lambda item: item[1])
                    lines.append(f"- {contender}, round {number + 1}, {phase}: {sum(errors.values())} wrong of {turn[phase]['asked']}, mostly `{worst[0][:160]}`")
    return ["Wrong answers outside the search:", "", *lines, ""] if lines else ["No wrong answer outside the search, where overload is meant.", ""]


def books(result):
    lines = []
    for number, one in enumerate(result["rounds"]):
        for contender, turn in one["contenders"].items():
            if "booked" in turn:
                booked, served = turn["booked"], turn["served"]
                same = all(booked[field] == served[field] for field in ["requests", "prompt_tokens", "completion_tokens"])
                lines.append(
                    f"- {contender}, round {number + 1}: booked {booked['requests']:,} requests, {booked['prompt_tokens']:,} + {booked['completion_tokens']:,} tokens, {booked['cost_usd']} USD; "
                    f"served {served['requests']:,}, {served['prompt_tokens']:,} + {served['completion_tokens']:,}: {'the same' if same else '**not the same**'}; "
                    f"{'balances' if booked['balances'] else '**does not balance**'}; {booked['open']} open, {booked['estimated']} estimated"
                )
    return ["The book against what the stand-in served:", "", *lines] if lines else []


# === chart ===

COLOURS = {"baseload": "#d9480f"}


def chart(result):
    """Two groups of bars on a logarithmic scale: they lie decades apart."""
    contenders = named(result)
    groups = [("per_cpu_second", "requests per processor second"), ("rate", f"requests/s at p99 < {result['definition']['search']['p99_ms']} ms")]
    width, bar, left, right = 760, 24, 190, 150
    decades, span = 5, width - left - right
    lines, y = [], 10
    for key, title in groups:
        lines.append(f'<text x="{left}" y="{y + 14}" font-weight="bold">{escape(title)}</text>')
        y += 24
        for contender, name in contenders:
            there = [value for value in values(result, contender, key) if value is not None]
            middle = statistics.median(there) if there else 0
            length = max(0.0, math.log10(max(middle, 1)) / decades * span)
            lines.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
            lines.append(f'<rect x="{left}" y="{y + 3}" width="{length:.1f}" height="{bar - 6}" fill="{COLOURS.get(contender, "#868e96")}"/>')
            label = cell(there, 0) if middle >= 1 else "none" if there else "not measured"
            lines.append(f'<text x="{left + length + 6:.1f}" y="{y + 16}">{escape(label)}</text>')
            y += bar
        y += 16
    lines.append(f'<text x="{left}" y="{y + 4}" fill="#868e96">logarithmic; {escape(result["machine"])}; commit {result["commit"]}; {result["date"]}</text>')
    body = "\n".join(lines)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 16}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
