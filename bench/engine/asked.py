"""How does an engine of somebody else's answer questions from another process? One JSON object a line, as crates/engine/examples/measure.rs does.

Import this before the engine's library: answers go to what was standard output, and whatever the library prints goes elsewhere.
"""

import json
import os
import sys

ANSWERS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


class Asked:
    """An engine that has `prefill`, `decode` and `scores`, each of which returns its answer."""

    def say(self, **answer):
        print(json.dumps(answer), file=ANSWERS)

    def answer(self, question):
        match question["do"]:
            case "prefill":
                return self.prefill(question["prompt"])
            case "decode":
                return self.decode(question["prompts"], question["steps"])
            case "scores":
                return self.scores(question["prompt"])

    def serve(self):
        for line in sys.stdin:
            self.say(**self.answer(json.loads(line)))
