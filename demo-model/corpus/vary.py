"""How do people's questions differ in case, punctuation and slips of the finger?"""

import random


def roughen(question: str, rng: random.Random) -> str:
    """Returns the question as somebody in a hurry might type it; half of the time unchanged."""
    draw = rng.random()
    if draw < 0.50:
        return question
    if draw < 0.70:
        return question.lower()
    if draw < 0.80:
        return question.rstrip("?.!")
    if draw < 0.90:
        return question.lower().rstrip("?.!")
    if draw < 0.92:
        return question.upper()
    if draw < 0.96:
        return question.rstrip("?.!") + rng.choice(["??", "!", " ?", "...", "?!"])
    return swap_letters(question, rng)


def swap_letters(question: str, rng: random.Random) -> str:
    """Returns the question with two neighbouring letters of a longer word exchanged."""
    words = question.split(" ")
    long_words = [index for index, word in enumerate(words) if len(word) > 5 and word.isalpha()]
    if not long_words:
        return question
    index = rng.choice(long_words)
    word = words[index]
    at = rng.randrange(1, len(word) - 2)
    words[index] = word[:at] + word[at + 1] + word[at] + word[at + 2:]
    return " ".join(words)
