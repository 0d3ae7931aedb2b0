#!/usr/bin/env python3
"""What came of it, side by side?  tests/budgets/report.py RESULT.json... > table.md; --chart FILE.svg draws how much of each cap was used."""

import argparse
import json
import pathlib

COLORS = ["#1f77b4", "#ff7f0e", "#c44e52", "#777777"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    parser.add_argument("--chart", type=pathlib.Path)
    options = parser.parse_args()
    reports = [json.loads(path.read_text()) for path in options.results]
    results = [result for report in reports for result in report["results"]]
    cases = list(dict.fromkeys(result["case"] for result in results))
    for case in cases:
        table(case, [result for result in results if result["case"] == case])
    if options.chart:
        options.chart.write_text(chart([case for case in cases if case != "cancel"], results))


def table(case, results):
    print(f"\n### `{case}`, cap {results[0]['cap_usd']} USD\n")
    print("| subject | produced | booked | overshoot | stated bound | left unused | answers whole / cut / left | refused (falsely) | slowest refusal | load average |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for r in results:
        falsely = "" if r["false_refusals"] is None else f" ({r['false_refusals']})"
        slowest = "" if not r["refusal_seconds_p50_max"] else f"{r['refusal_seconds_p50_max'][1]} s"
        print(
            f"| {r['subject']} {r['version']} | {r['produced_usd']} | {r['booked_usd']} | {r['overshoot_usd']} ({r['overshoot_share']:.1%}) "
            f"| {r['bound_usd'] or 'none stated'} | {r['unused_usd']} | {r['whole']} / {r['cut']} / {r['left']} | {r['refused']}{falsely} "
            f"| {slowest} | {r['load_average'][0]:.1f} to {r['load_average'][1]:.1f} |"
        )
        if "users_over_their_cap" in r:
            print(f"\n{r['subject']}: {r['users_over_their_cap']} users over their cap, {r['users_without_any_answer']} without any answer.\n")


def chart(cases, results):
    """Bars: how much of each cap was used; what stands over the line is overshoot."""
    subjects = list(dict.fromkeys(result["subject"] for result in results))
    width, height, base = 860, 340, 270
    most = max([1.4] + [float(r["produced_usd"]) / float(r["cap_usd"]) for r in results if r["case"] in cases])
    y = lambda share: base - share / most * 200
    parts = [f'<text x="20" y="24" font-size="15">How much of the cap was used (the line is the cap)</text>']
    slot = (width - 60) / max(1, len(cases))
    for index, case in enumerate(cases):
        left = 40 + index * slot
        parts.append(f'<text x="{left + slot / 2 - 20:.0f}" y="{base + 18}">{case}</text>')
        for place, subject in enumerate(subjects):
            found = next((r for r in results if r["case"] == case and r["subject"] == subject), None)
            if found:
                share = float(found["produced_usd"]) / float(found["cap_usd"])
                bar, x = slot / (len(subjects) + 1), left + (place + 0.5) * slot / (len(subjects) + 1)
                parts.append(f'<rect x="{x:.0f}" y="{y(share):.0f}" width="{bar * 0.85:.0f}" height="{base - y(share):.0f}" fill="{COLORS[place % 4]}"/>')
                parts.append(f'<text x="{x:.0f}" y="{y(share) - 4:.0f}">{share:.1%}</text>')
    parts.append(f'<line x1="40" x2="{width - 20}" y1="{y(1):.0f}" y2="{y(1):.0f}" stroke="#000" stroke-dasharray="4"/>')
    for place, subject in enumerate(subjects):
        parts.append(f'<rect x="{40 + place * 270}" y="{height - 30}" width="12" height="12" fill="{COLORS[place % 4]}"/>')
        parts.append(f'<text x="{58 + place * 270}" y="{height - 20}">{subject}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    return head + "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    main()
