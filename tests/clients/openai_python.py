"""Does the OpenAI Python client work, unchanged, against a running server at $BASELOAD_URL?"""

import os
import unittest

import openai

BASE = os.environ["BASELOAD_URL"] + "/v1"
client = openai.OpenAI(base_url=BASE, api_key="not-needed-on-loopback", max_retries=0)
MODEL = client.models.list().data[0].id
QUESTION = [{"role": "user", "content": "What is a KV cache?"}]


class Chat(unittest.TestCase):
    def ask(self, **options):
        return client.chat.completions.create(**{"model": MODEL, "messages": QUESTION, "temperature": 0, **options})

    def test_an_answer_has_text_a_reason_and_a_count(self):
        answer = self.ask()
        self.assertGreater(len(answer.choices[0].message.content), 10)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_a_stream_says_the_same_as_the_whole_answer(self):
        whole = self.ask()
        chunks = list(self.ask(stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(sum(1 for c in chunks if c.choices and c.choices[0].finish_reason), 1)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)

    def test_max_tokens_cuts_and_says_so(self):
        for field in ("max_tokens", "max_completion_tokens"):
            answer = self.ask(**{field: 3})
            self.assertEqual((answer.choices[0].finish_reason, answer.usage.completion_tokens), ("length", 3))

    def test_a_stop_string_ends_the_answer_before_itself(self):
        whole = self.ask().choices[0].message.content
        stop = whole.split()[2]
        answer = self.ask(stop=[stop])
        self.assertEqual(answer.choices[0].message.content, whole[: whole.index(stop)])
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_a_seed_repeats_and_another_differs(self):
        def draw(seed):
            return self.ask(temperature=2, seed=seed, max_tokens=24).choices[0].message.content

        self.assertEqual(draw(1), draw(1))
        self.assertGreater(len({draw(seed) for seed in range(6)}), 1)

    def test_logprobs_are_probabilities_with_alternatives(self):
        answer = self.ask(logprobs=True, top_logprobs=3, max_tokens=4)
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), 4)
        for token in content:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.token, token.top_logprobs[0].token)  # greedy takes the likeliest

    def test_several_choices_are_numbered(self):
        answer = self.ask(n=3, temperature=1, max_tokens=5)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2])
        self.assertEqual(answer.usage.completion_tokens <= 15, True)

    def test_a_bias_forbids_a_token(self):
        first = self.ask(max_tokens=1, logprobs=True).choices[0]
        tokens = client.post("/../tokenize", body={"model": MODEL, "prompt": first.message.content, "add_special_tokens": False}, cast_to=object)["tokens"]
        answer = self.ask(max_tokens=1, logit_bias={str(token): -100 for token in tokens})
        self.assertNotEqual(answer.choices[0].message.content, first.message.content)

    def test_other_sampling_fields_are_accepted(self):
        answer = self.ask(
            temperature=0.7, top_p=0.9, presence_penalty=0.5, frequency_penalty=0.5, max_tokens=8,
            extra_body={"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1},
        )
        self.assertIn(answer.choices[0].finish_reason, ("stop", "length"))

    def test_errors_name_the_parameter(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.ask(temperature=9)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.NotFoundError) as caught:
            self.ask(model="no-such-model")
        self.assertIn("no-such-model", str(caught.exception))

    def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.ask(messages=[{"role": "user", "content": "many words " * 20_000}])
        self.assertEqual(caught.exception.code, "context_length_exceeded")


class Completions(unittest.TestCase):
    def complete(self, **options):
        return client.completions.create(**{"model": MODEL, "prompt": "The KV cache", "temperature": 0, "max_tokens": 8, **options})

    def test_a_prompt_is_continued_and_streamed_alike(self):
        whole = self.complete()
        streamed = "".join(chunk.choices[0].text for chunk in self.complete(stream=True))
        self.assertEqual(streamed, whole.choices[0].text)

    def test_echo_gives_the_prompt_back(self):
        self.assertTrue(self.complete(echo=True).choices[0].text.startswith("The KV cache"))

    def test_several_prompts_get_several_choices(self):
        answer = self.complete(prompt=["One", "Two"], n=2)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2, 3])

    def test_logprobs_cover_prompt_and_answer_with_echo(self):
        logprobs = self.complete(echo=True, logprobs=2, max_tokens=2).choices[0].logprobs
        self.assertIsNone(logprobs.token_logprobs[0])
        self.assertEqual(len(logprobs.tokens), len(logprobs.token_logprobs))
        self.assertEqual("".join(logprobs.tokens)[: len("The KV cache")], "The KV cache")


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_the_asynchronous_client_streams(self):
        async with openai.AsyncOpenAI(base_url=BASE, api_key="x", max_retries=0) as a_client:
            stream = await a_client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True, max_tokens=8)
            reasons = [chunk.choices[0].finish_reason async for chunk in stream if chunk.choices]
        self.assertEqual([reason for reason in reasons if reason], ["length"])


if __name__ == "__main__":
    unittest.main()
