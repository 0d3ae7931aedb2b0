"""Does each engine compute the same model? One that does not has no time.

Greedy answers on random weights part after a few tokens whoever is right, so one fixed text is scored instead: how likely is each
of its tokens after those before? Every engine's log-probabilities are compared with ours in bf16, the precision of the file.
"""

import math

# The relative error (root mean square) that a product's operands carry in each precision.
#   bf16: 8 bits of mantissa round to 2^-9 at worst, 2^-9/sqrt(3) on average; activations are rounded some 40 times on the way (16
#         layers with two additions to the residual stream and a few more each that add up like independent errors): sqrt(40) of it.
#   int8: normal weights reach 4 standard deviations in a row, so a step is 4/127 and its error 4/127/sqrt(12); activations the same.
#   int4: 2.9 standard deviations in a group of 128, a step of 2.9/7.5, an error of 2.9/7.5/sqrt(12); activations in int8.
OPERAND_ERROR = {
    "bf16": math.sqrt(40) * 2**-9 / math.sqrt(3),
    "int8": math.sqrt(2) * 4 / 127 / math.sqrt(12),
    "int4": math.hypot(2.9 / 7.5, 4 / 127) / math.sqrt(12),
}
# A score passes about three products in a row in each block (values and output; gate-up and down; the last one), whose errors add
# up as squares: a factor of 2 at most beside the residual stream that passes by. Twice that is allowed.
PRODUCTS = 4.0


def tolerance(precision, reference):
    """Root mean square of what log-probabilities may be off by. Their own spread is the scale that relative errors refer to."""
    mean = sum(reference) / len(reference)
    spread = math.sqrt(sum((value - mean) ** 2 for value in reference) / len(reference))
    return PRODUCTS * OPERAND_ERROR[precision] * spread


def judge(scores, reference, allowed):
    """Returns what was found, with `right`."""
    if len(scores) != len(reference) or not all(math.isfinite(score) for score in scores):
        return {"right": False, "off": None, "allowed": allowed, "scores": len(scores)}
    off = math.sqrt(sum((mine - truth) ** 2 for mine, truth in zip(scores, reference)) / len(reference))
    return {"right": off <= allowed, "off": off, "allowed": allowed, "scores": len(scores)}
