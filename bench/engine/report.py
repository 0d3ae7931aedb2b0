"""What does a result look like to a reader: a table, the claims, a chart?"""

import json
import statistics
from html import escape

import house

OURS = "baseload"


def write(result, path):
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(text(result, path.name))
    path.with_suffix(".svg").write_text(chart(result))


def text(result, name):
    engines = there(result)
    peers = [engine for engine in engines if engine["name"] != OURS]
    lines = [
        f"# {result['definition']['title']}, {result['date']}",
        "",
        f"Machine: {result['machine']}; commit {result['commit']}; model {result['model']}; load average {span(result['load'], 1)} at the rounds' starts. {bandwidth(result)}",
        f"{result['definition']['threads']} threads each on cores {result['definition']['cores']}, engines in turn; tokens a second, medians of the rounds with lowest and highest; ratios are ours over the peer's, round by round.",
        "Definition: `bench/engine/engine.toml`; again with `bench/engine/run`.",
        "",
        "| | " + " | ".join(["Baseload", *[f"{peer['title']} | ratio" for peer in peers], "of the machine"]) + " |",
        "|---" * (3 + 2 * len(peers)) + "|",
    ]
    for row, precision in pairs(result):
        cells = [f"{row['title']}, {precision}", cell(values(result, row, precision, OURS))]
        for peer in peers:
            cells += [cell(values(result, row, precision, peer["name"])), cell(ratios(result, row, precision, peer["name"]), 2)]
        share = shares(result, row, precision)
        cells.append(f"{100 * statistics.median(share):.0f} %" if share else "-")
        lines.append("| " + " | ".join(cells) + " |")
        if row["kind"] == "http":
            lines.append(waiting(result, row, precision, peers))
    lines += ["", *claims(result), "", *right(result), "", *houses(result), f"![tokens a second]({name}.svg)", "", "How each ran:", ""]
    for engine in engines:
        files = ", ".join(sorted(set(engine["models"].values()))).format(model=result["model"])
        settings = {key: value for key, value in engine.items() if key.startswith("settings")}
        lines.append(f"- **{engine['title']}**: {files}; {json.dumps(settings)}")
    lines += [f"- **{server['engine']}** over HTTP: {' '.join(server.get('flags', [])) or 'a stand-in, `openvino_server.py`'}" for server in result["definition"]["server"]]
    lines += ["", "Versions: " + ", ".join(f"{package} {version}" for package, version in result["versions"].items()) + "."]
    lines += [f"\nNot measured: {one['engine']}, {one['precision']}: {one['reason'].strip().splitlines()[-1][:300]}" for one in result["failed"]]
    return "\n".join(lines).rstrip() + "\n"


# === numbers ===


def there(result):
    ran = {one["engine"] for one in result["measured"]}
    return [engine for engine in result["definition"]["engine"] if engine["name"] in ran]


def pairs(result):
    ran = {(one["row"], one["precision"]) for one in result["measured"]}
    return [(row, precision) for row in result["definition"]["row"] for precision in result["definition"]["precisions"] if (row["name"], precision) in ran]


def rounds(result, row, precision, engine, key="tokens_per_second"):
    wanted = (row["name"], precision, engine)
    return {one["round"]: one[key] for one in result["measured"] if (one["row"], one["precision"], one["engine"]) == wanted}


def values(result, row, precision, engine, key="tokens_per_second"):
    return list(rounds(result, row, precision, engine, key).values())


def ratios(result, row, precision, peer, key="tokens_per_second"):
    mine, theirs = rounds(result, row, precision, OURS, key), rounds(result, row, precision, peer, key)
    return [mine[number] / theirs[number] for number in mine if number in theirs]


def shares(result, row, precision):
    """Our part of what the machine could do: of the read bandwidth, of the multiplying peak, or of whichever binds first."""
    about = result["about"].get(OURS, {}).get(precision)
    probes = result["probe"].get(precision)
    if not about or not probes or row["kind"] not in ("prefill", "decode"):
        return []
    # Which experts are read depends on the rows.
    if about.get("experts"):
        return []
    read = statistics.median(probe["read_bytes_per_second"] for probe in probes)
    peak = statistics.median(probe.get("multiply_per_second", 0) for probe in probes)
    body = about["parameters"] - about["head_parameters"]
    if row["kind"] == "prefill":
        if not peak:
            return []
        # Each token passes the layers, the last one the output projection. Attention is left out, so the share is a little low.
        work = 2 * (body * row["tokens"] + about["head_parameters"])
        return [work * speed / row["tokens"] / peak for speed in values(result, row, precision, OURS)]
    # A step reads all weights once, and each stream's keys and values.
    context = row["context"] + row["steps"] / 2
    seconds = (about["read_bytes"] + row["streams"] * context * about["kv_bytes_per_token"]) / read
    if peak and row["streams"] > 1:
        seconds = max(seconds, 2 * about["parameters"] * row["streams"] / peak)
    return [seconds * speed / row["streams"] for speed in values(result, row, precision, OURS)]


def claims(result):
    lines = []
    for row, precision in pairs(result):
        found = ratios(result, row, precision, "llama.cpp")
        wanted = row.get("at_least_amx") if result["amx"] else row.get("at_least")
        wanted = wanted.get(precision) if isinstance(wanted, dict) else wanted
        if found and wanted:
            lines.append(verdict(f"{row['title']}, {precision}: at least {wanted} × llama.cpp", found, statistics.median(found) >= wanted))
        wanted = row.get("fraction", row.get("fraction_amx") if result["amx"] else None)
        share = shares(result, row, precision)
        if share and wanted:
            lines.append(verdict(f"{row['title']}, {precision}: at least {wanted} of the machine", share, statistics.median(share) >= wanted))
    return ["Claims:", "", *lines]


def verdict(claim, found, kept):
    return f"- {'kept' if kept else '**not kept**'}: {claim}: {cell(found, 2)}"


# === words ===


def cell(found, digits=1):
    if not found:
        return "-"
    middle = f"{statistics.median(found):,.{digits}f}"
    return middle if len(found) == 1 else f"{middle} ({span(found, digits)})"


def span(found, digits):
    return f"{min(found):,.{digits}f} to {max(found):,.{digits}f}" if found else "-"


def bandwidth(result):
    read = [probe["read_bytes_per_second"] / 1e9 for probes in result["probe"].values() for probe in probes]
    parts = [f"Reads {cell(read)} GB/s"] if read else []
    for precision, probes in result["probe"].items():
        if peaks := [probe["multiply_per_second"] / 1e12 for probe in probes if "multiply_per_second" in probe]:
            parts.append(f"multiplies {cell(peaks, 2)} Tera-operations/s in {precision}")
    return "; ".join(parts) + "." if parts else ""


def waiting(result, row, precision, peers):
    """The first token's wait, under the row of a server."""
    cells = [f"… p95 of the first token, ms, {precision}", cell(values(result, row, precision, OURS, "ttft_p95_ms"), 0)]
    for peer in peers:
        cells += [cell(values(result, row, precision, peer["name"], "ttft_p95_ms"), 0), cell(ratios(result, row, precision, peer["name"], "ttft_p95_ms"), 2)]
    return "| " + " | ".join([*cells, ""]) + " |"


def right(result):
    lines = ["Answers: how far log-probabilities of a fixed text are from ours in bf16 (root mean square, with the limit of `answers.py`):", ""]
    for name, by_precision in result["answers"].items():
        if name != "reference":
            parts = [f"{precision} {'right' if one['right'] else '**wrong**'}, {how_far(one)}" for precision, one in by_precision.items()]
            lines.append(f"- {name}: {'; '.join(parts)}")
    return lines


def how_far(one):
    if one["off"] is None or one["allowed"] is None:
        return "no scores to compare"
    return f"{one['off']:.3f} of {one['allowed']:.3f}"


def houses(result):
    lines = []
    if one := result["house"].get("house"):
        limit = result["definition"]["house"]["idle_cpu_at_most"]
        lines += [
            f"Our server with {result['model']} in {one['precision']}: ready after {one['first_start_seconds']:.1f} s, the second time after {one['second_start_seconds']:.1f} s; "
            f"resident {one['memory_used']['rss_mib']:,.0f} MiB after an answer, the files are {one['file_mib']:,.0f} MiB.",
            verdict(f"idle, at most {limit:.0%} of a core", [one["idle_cpu"]], one["idle_cpu"] <= limit),
            "",
        ]
    if one := result["house"].get("speculation"):
        if one["left_out"]:
            lines += [f"Speculation: this binary does not know {', '.join(one['left_out'])}.", ""]
        for name, by_variant in one["texts"].items():
            for variant, answers in by_variant.items():
                if variant == "off":
                    lines.append(f"- speculation off, {name} text: {cell([answer['tokens_per_second'] for answer in answers])} tok/s")
                    continue
                found = house.gain(answers, by_variant["off"])
                counters = {key: sum(answer[key] for answer in answers) for key in answers[0] if "spec_decode" in key}
                limit = 1 - result["definition"]["speculation"]["slower_at_most"]
                lines.append(verdict(f"speculation by {variant}, {name} text, against off: at least {limit} ×", found, statistics.median(found) >= limit) + f" {counters}")
        lines.append("")
    return lines


# === chart ===

COLOURS = {OURS: "#d9480f"}


def chart(result):
    """A group of bars for each row and precision; each group has its own scale, because only its bars compare."""
    width, bar, left, right_edge = 760, 20, 150, 130
    lines, y = [], 10
    for row, precision in pairs(result):
        lines.append(f'<text x="{left}" y="{y + 14}" font-weight="bold">{escape(row["title"])}, {precision}, tokens/s</text>')
        y += 22
        middles = {engine["name"]: values(result, row, precision, engine["name"]) for engine in there(result)}
        longest = max(statistics.median(found) for found in middles.values() if found)
        for engine in there(result):
            found = middles[engine["name"]]
            if not found:
                continue
            length = statistics.median(found) / longest * (width - left - right_edge)
            lines.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(engine["title"])}</text>')
            lines.append(f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{bar - 5}" fill="{COLOURS.get(engine["name"], "#868e96")}"/>')
            lines.append(f'<text x="{left + length + 6:.1f}" y="{y + 14}">{escape(cell(found))}</text>')
            y += bar
        y += 12
    lines.append(f'<text x="{left}" y="{y + 4}" fill="#868e96">{escape(result["machine"])}; commit {result["commit"]}; {result["date"]}</text>')
    body = "\n".join(lines)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 16}" font-family="sans-serif" font-size="13"><rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
