"""Was each request billed as what the stand-ins served, and was every bad end somebody's fault that we know of?"""

# Under these the provider itself says something else than it counted, or nothing.
LYING = "usage"
# These change how an answer is written, not what it is: nothing may come of them.
HARMLESS = {"tiny_writes", "cut", "carriage_returns", "comments", "packed", "gzip", "content_type"}


def bills(answers, booked, standins):
    """Returns how many bills were compared, and what is wrong with the others, in words."""
    counts = {"exact": 0, "not more than served": 0, "nothing": 0, "as reported, which was a lie": 0, "not comparable: its stand-in died": 0}
    faults, booked_sum, served_sum = [], 0, 0
    for answer in answers:
        if not answer.request:
            if answer.verdict != "unreachable":
                faults.append(f"[nonce {answer.nonce}] has no x-request-id ({answer.verdict}, {answer.why})")
            continue
        # A retry elsewhere has a hold of its own: `NAME`, then `NAME.2`, `NAME.3`. Only the last may have cost anything.
        names = [answer.request, *(f"{answer.request}.{number}" for number in range(2, 12))]
        entries = [entry for name in names for entry in booked.get(name, [])]
        charged = [entry for entry in entries if entry.get("output", 0) > 0]
        if len(charged) > 1:
            faults.append(f"{answer.request} is charged {len(charged)} times: {charged}")
        entry = entries[-1] if entries else {}
        served = [request for standin in standins for request in standin.of(answer.nonce) if request["tally"]]
        if answer.verdict in ("refused", "nameless"):
            if entry.get("output", 0) > 0:
                faults.append(f"{answer.request} was refused ({answer.why}) and booked {entry}")
            counts["nothing"] += 1
            continue
        if not entry:
            faults.append(f"{answer.request} ({answer.verdict}) is not in the book")
            continue
        if "output" not in entry:
            # Released or lost: nothing was charged, or only an estimate of it.
            if answer.verdict == "whole":
                faults.append(f"{answer.request} came whole and is booked as {entry['end']}")
            counts["nothing"] += 1
            continue
        mine = [request for standin in standins if f"@{standin.name}" in answer.unit for request in standin.of(answer.nonce) if request["tally"]]
        if not mine:
            counts["not comparable: its stand-in died"] += 1
            continue
        last = mine[-1]
        tally = last["tally"]
        input_tokens = tally["input_uncached"] + tally["cache_read"] + tally["cache_write_5m"] + tally["cache_write_1h"]
        if LYING in last["ugly"]:
            counts["as reported, which was a lie"] += 1
        elif answer.verdict in ("whole", "unfinished"):
            booked_sum += entry["input"] + entry["output"]
            served_sum += input_tokens + tally["output"]
            if (entry["input"], entry["output"]) != (input_tokens, tally["output"]):
                faults.append(f"{answer.request} ({answer.verdict}, {last['ugly']}) is booked as {entry['input']} + {entry['output']}, served were {input_tokens} + {tally['output']}")
            else:
                counts["exact"] += 1
        else:
            most = sum(request["tally"]["output"] for request in served)
            if entry["output"] > most:
                faults.append(f"{answer.request} ({answer.verdict}, {last['ugly']}) is booked with an output of {entry['output']}, at most {most} were served")
            else:
                counts["not more than served"] += 1
    return {"compared": counts, "booked_tokens_of_whole_answers": booked_sum, "served_tokens_of_whole_answers": served_sum, "faults": faults}


def unexplained(answers, standins, deaths):
    """Returns the bad ends that nothing in the menu explains. `deaths`: (stand-in's name, from, to) on the monotonic clock."""
    found = []
    for answer in answers:
        if answer.verdict in ("whole", "left"):
            continue
        ugly = {kind for standin in standins for request in standin.of(answer.nonce) for kind in request["ugly"]} - HARMLESS
        died = any(began - 1 <= answer.began + answer.seconds and answer.began <= ended + 1 for _, began, ended in deaths)
        # Whoever may go nowhere else hears at once that its only unit rests after failures.
        rests = answer.route == "lonely" and answer.why.startswith("no_unit_available")
        if not ugly and not died and not rests:
            found.append(f"[nonce {answer.nonce}] {answer.request} {answer.route} {answer.unit}: {answer.verdict}: {answer.why}")
    return found


def tell(faults, most=12):
    for fault in faults[:most]:
        print(f"  - {fault}")
    if len(faults) > most:
        print(f"  … and {len(faults) - most} more")


def by_verdict(answers):
    counts = {}
    for answer in answers:
        counts.setdefault(answer.route, {}).setdefault(answer.verdict, 0)
        counts[answer.route][answer.verdict] += 1
    return counts


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))] if ordered else None
