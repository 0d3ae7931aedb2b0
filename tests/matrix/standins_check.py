"""Are the stand-ins what they claim to be? The providers' own client libraries say so, or do not."""

import base64
import json
import pathlib
import tempfile
import unittest

import anthropic
import boto3
import openai
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from standins import KEY, REGION, SECRET, Standins

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SEEN = f"I see image/png of {len(PNG)} bytes"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
LONG = " ".join(f"word{number}" for number in range(1500))
standins = None


def setUpModule():
    global standins
    standins = Standins("--all", *key_arguments())


def tearDownModule():
    standins.stop()
    FOLDER.cleanup()


FOLDER = tempfile.TemporaryDirectory()


def key_arguments():
    """A key pair of this run for the service account."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    global PRIVATE
    PRIVATE = pem.decode()
    path = pathlib.Path(FOLDER.name) / "public.pem"
    path.write_bytes(public)
    return ["--service-account-key", path]


class Case(unittest.TestCase):
    kind = None

    def setUp(self):
        if self.kind:
            standins.forget(self.kind)


class OpenAiChat(Case):
    kind = "openai"
    model = "gpt-standin"

    def client(self, **options):
        return openai.OpenAI(base_url=standins.url(self.kind) + "/v1", api_key=KEY, max_retries=0, **options)

    def ask(self, text, **options):
        ask = {"model": self.model, "messages": [{"role": "user", "content": text}], **options}
        return self.client().chat.completions.create(**ask)

    def test_an_answer_and_its_stream_say_the_same(self):
        whole = self.ask("Hello there")
        self.assertEqual(whole.choices[0].message.content, "You said: Hello there")
        self.assertEqual(whole.choices[0].finish_reason, "stop")
        chunks = list(self.ask("Hello there", stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, "You said: Hello there")
        self.assertEqual(chunks[-1].usage, whole.usage)
        tally = standins.last(self.kind)["tally"]
        self.assertEqual(tally["output"], whole.usage.completion_tokens)

    def test_tools_are_called_and_their_results_read(self):
        tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
        ask = 'call weather {"city": "Oslo"} and call weather {"city": "Rome"}'
        for stream in (False, True):
            answer = self.ask(ask, tools=tools, stream=stream)
            if stream:
                answer = self.assembled(answer)
            else:
                self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
                answer = [(c.id, c.function.name, c.function.arguments) for c in answer.choices[0].message.tool_calls]
            self.assertEqual([json.loads(c[2]) for c in answer], [{"city": "Oslo"}, {"city": "Rome"}])
        history = [
            {"role": "user", "content": ask},
            {"role": "assistant", "tool_calls": [
                {"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in answer]},
            *({"role": "tool", "tool_call_id": i, "content": f"{place} degrees"} for place, (i, _, _) in enumerate(answer)),
        ]
        after = self.ask("", tools=tools, messages=history)
        self.assertEqual(after.choices[0].message.content, "The tools said: 0 degrees; 1 degrees")
        with self.assertRaises(openai.BadRequestError):
            self.ask("", tools=tools, messages=history[:-1])

    def assembled(self, stream):
        calls = {}
        for chunk in stream:
            # Azure's first chunk has none.
            for delta in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                call = calls.setdefault(delta.index, ["", "", ""])
                call[0] = delta.id or call[0]
                call[1] = delta.function.name or call[1]
                call[2] += delta.function.arguments or ""
        return list(calls.values())

    def test_a_schema_is_kept_to(self):
        schema = {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True}}
        value = json.loads(self.ask("Sunny Oslo today", response_format=schema).choices[0].message.content)
        self.assertEqual(value, {"city": "Sunny Oslo today", "degrees": 7})
        schema["json_schema"]["schema"] = {**SCHEMA, "required": []}
        with self.assertRaises(openai.BadRequestError):
            self.ask("x", response_format=schema)

    def test_pictures_are_seen(self):
        url = "data:image/png;base64," + base64.b64encode(PNG).decode()
        content = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]
        self.assertIn(SEEN, self.ask(content).choices[0].message.content)

    def test_limits_stops_choices_and_scores(self):
        self.assertEqual(self.ask("count to 9", max_completion_tokens=3).choices[0].finish_reason, "length")
        self.assertEqual(self.ask("count to 9", stop=["5"]).choices[0].message.content, "1 2 3 4 ")
        self.assertEqual([c.index for c in self.ask("x", n=3).choices], [0, 1, 2])
        scores = self.ask("x", logprobs=True, top_logprobs=2).choices[0].logprobs.content
        self.assertEqual(len(scores[0].top_logprobs), 2)

    def test_a_repeated_beginning_is_cached(self):
        self.assertEqual(self.ask(LONG).usage.prompt_tokens_details.cached_tokens, 0)
        again = self.ask(LONG).usage
        self.assertGreaterEqual(again.prompt_tokens_details.cached_tokens, 1024)
        self.assertEqual(again.prompt_tokens_details.cached_tokens % 128, 0)

    def test_what_is_wrong_is_named(self):
        for wrong, param in [
            ({"temperature": 3}, "temperature"), ({"extra_body": {"tok_k": 1}}, "tok_k"), ({"n": "many"}, "n"),
            ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].type"),
            ({"max_tokens": 5, "model": "gpt-5-standin"}, "max_tokens"),
        ]:
            with self.assertRaises(openai.BadRequestError) as caught:
                self.ask("x", **wrong)
            self.assertEqual(caught.exception.param, param)
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=standins.url(self.kind) + "/v1", api_key="wrong", max_retries=0).models.list()
        with self.assertRaises(openai.NotFoundError):
            self.ask("x", model="no-such-model")

    def test_embeddings_are_places(self):
        answer = self.client().embeddings.create(model="embed-standin", input=["a", "b", "a"])
        self.assertEqual(len(answer.data[0].embedding), 16)
        self.assertEqual(answer.data[0].embedding, answer.data[2].embedding)
        self.assertNotEqual(answer.data[0].embedding, answer.data[1].embedding)

    def test_the_ugly_menu_is_served(self):
        standins.behave(self.kind, {"kind": "rate_limited", "retry": "seconds", "seconds": 2})
        with self.assertRaises(openai.RateLimitError) as caught:
            self.ask("x")
        self.assertEqual(caught.exception.response.headers["retry-after"], "2")
        standins.behave(self.kind, {"kind": "error_after", "events": 2})
        with self.assertRaises(openai.APIError):
            list(self.ask("x", stream=True))
        standins.behave(self.kind, {"kind": "reset", "at_byte": 900})
        with self.assertRaises(Exception):
            list(self.ask("count to 99", stream=True))
        for kind in [{"kind": "tiny_writes", "bytes": 1}, {"kind": "carriage_returns"}, {"kind": "comments"}, {"kind": "packed"}, {"kind": "gzip"}]:
            standins.behave(self.kind, kind)
            text = "".join(c.choices[0].delta.content or "" for c in self.ask("Hello", stream=True) if c.choices)
            self.assertEqual(text, "You said: Hello", kind)
            self.assertEqual(standins.last(self.kind)["ugly"], [kind["kind"]])


class Azure(OpenAiChat):
    kind = "azure"

    def client(self, **options):
        return openai.AzureOpenAI(azure_endpoint=standins.url(self.kind), api_version="2025-04-01-preview", api_key=KEY, max_retries=0, **options)

    def test_the_deployment_is_in_the_path(self):
        self.ask("x")
        self.assertEqual(standins.last(self.kind)["path"], "/openai/deployments/gpt-standin/chat/completions")
        client = openai.OpenAI(base_url=standins.url(self.kind) + "/openai/v1", api_key=KEY, max_retries=0)
        self.assertEqual(client.responses.create(model="gpt-standin", input="Hi").output_text, "You said: Hi")

    def test_what_is_wrong_is_named(self):
        with self.assertRaises(openai.AuthenticationError):
            openai.AzureOpenAI(azure_endpoint=standins.url(self.kind), api_version="2024-10-21", api_key="wrong", max_retries=0).chat.completions.create(
                model="x", messages=[{"role": "user", "content": "x"}])


class OpenAiResponses(Case):
    kind = "openai"

    def ask(self, said, model="gpt-standin", **options):
        client = openai.OpenAI(base_url=standins.url(self.kind) + "/v1", api_key=KEY, max_retries=0)
        return client.responses.create(model=model, input=said, **options)

    def test_an_answer_and_its_stream_say_the_same(self):
        whole = self.ask("Hello", instructions="Be brief.")
        self.assertEqual(whole.output_text, 'Told "Be brief.". You said: Hello')
        events = list(self.ask("Hello", instructions="Be brief.", stream=True))
        self.assertEqual(events[0].type, "response.created")
        self.assertEqual(events[-1].type, "response.completed")
        self.assertEqual("".join(e.delta for e in events if e.type == "response.output_text.delta"), whole.output_text)
        self.assertEqual(events[-1].response.output_text, whole.output_text)
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        self.assertEqual(events[-1].response.usage, whole.usage)

    def test_reasoning_comes_back_untouched(self):
        options = {"model": "gpt-5-standin", "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "store": False}
        first = self.ask("Hello", **options)
        self.assertGreater(first.usage.output_tokens_details.reasoning_tokens, 0)
        items = [item.model_dump(exclude_none=True) for item in first.output]
        self.assertIn("You said", self.ask([*items, {"role": "user", "content": "More"}], **options).output_text)
        items[0]["encrypted_content"] = "forged"
        with self.assertRaises(openai.BadRequestError):
            self.ask([*items, {"role": "user", "content": "More"}], **options)

    def test_tools_are_called_and_their_results_read(self):
        tools = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}]
        first = self.ask('call weather {"city": "Oslo", "degrees": 1}', tools=tools)
        call = first.output[-1]
        self.assertEqual((call.type, json.loads(call.arguments)["city"]), ("function_call", "Oslo"))
        history = [{"role": "user", "content": "x"}, call.model_dump(exclude_none=True)]
        with self.assertRaises(openai.BadRequestError):
            self.ask(history, tools=tools)
        history.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
        self.assertEqual(self.ask(history, tools=tools).output_text, "The tools said: rain")
        done = [e for e in self.ask('call weather {"city": "Oslo"}', tools=tools, stream=True) if e.type == "response.function_call_arguments.done"]
        self.assertEqual(json.loads(done[0].arguments), {"city": "Oslo"})

    def test_ends_and_errors(self):
        self.assertEqual(self.ask("count to 99", max_output_tokens=16).incomplete_details.reason, "max_output_tokens")
        schema = {"format": {"type": "json_schema", "name": "w", "schema": SCHEMA, "strict": True}}
        self.assertEqual(json.loads(self.ask("Oslo", text=schema).output_text)["degrees"], 7)
        with self.assertRaises(openai.BadRequestError):
            self.ask("x", previous_response_id="resp_none")
        standins.behave(self.kind, {"kind": "error_after", "events": 1})
        self.assertEqual([e.type for e in self.ask("x", stream=True)], ["response.created", "error", "response.failed"])


class Compatible(Case):
    kind = "compatible"

    def test_reasoning_has_a_field_of_its_own(self):
        client = openai.OpenAI(base_url=standins.url(self.kind) + "/v1", api_key=KEY, max_retries=0)
        ask = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "reasoning_effort": "low", "extra_body": {"top_k": 3}}
        self.assertIn("weigh", client.chat.completions.create(**ask).choices[0].message.reasoning_content)
        chunks = client.chat.completions.create(**ask, stream=True)
        self.assertIn("weigh", "".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in chunks))
        standins.behave(self.kind, {"kind": "reasoning_field", "field": "reasoning"})
        self.assertIn("weigh", client.chat.completions.create(**ask).choices[0].message.reasoning)


class Anthropic(Case):
    kind = "anthropic"

    def client(self):
        return anthropic.Anthropic(base_url=standins.url(self.kind), api_key=KEY, max_retries=0)

    def ask(self, content, **options):
        ask = {"model": "claude-standin", "max_tokens": 4096, "messages": [{"role": "user", "content": content}], **options}
        return self.client().messages.create(**ask)

    def test_an_answer_and_its_stream_say_the_same(self):
        whole = self.ask("Hello", system="Be brief.")
        self.assertEqual(whole.content[0].text, 'Told "Be brief.". You said: Hello')
        self.assertEqual(whole.stop_reason, "end_turn")
        with self.client().messages.stream(model="claude-standin", max_tokens=99, system="Be brief.", messages=[{"role": "user", "content": "Hello"}]) as stream:
            streamed = stream.get_final_message()
        self.assertEqual(streamed.content[0].text, whole.content[0].text)
        self.assertEqual(streamed.usage.output_tokens, whole.usage.output_tokens)

    def test_thoughts_come_back_untouched(self):
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        tools = [{"name": "weather", "input_schema": SCHEMA}]
        ask = 'call weather {"city": "Oslo"}'
        with self.client().messages.stream(model="claude-standin", max_tokens=4096, tools=tools, messages=[{"role": "user", "content": ask}], **thinking) as stream:
            first = stream.get_final_message()
        self.assertEqual([block.type for block in first.content], ["thinking", "tool_use"])
        self.assertEqual(first.stop_reason, "tool_use")
        blocks = [block.model_dump(exclude_none=True) for block in first.content]
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": blocks[1]["id"], "content": "rain"}]}
        history = [{"role": "user", "content": ask}, {"role": "assistant", "content": blocks}, result]
        after = self.ask("", messages=history, tools=tools, **thinking)
        self.assertEqual(after.content[-1].text, "The tools said: rain")
        blocks[0]["thinking"] += "!"
        with self.assertRaises(anthropic.BadRequestError):
            self.ask("", messages=history, tools=tools, **thinking)
        with self.assertRaises(anthropic.BadRequestError):
            self.ask("", messages=history[:-1], tools=tools)

    def test_marks_are_written_and_read(self):
        content = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"type": "text", "text": "So?"}]
        first, second = self.ask(content).usage, self.ask(content).usage
        self.assertGreater(first.cache_creation.ephemeral_1h_input_tokens, 1024)
        self.assertEqual(second.cache_read_input_tokens, first.cache_creation_input_tokens)
        self.assertEqual(second.input_tokens, first.input_tokens)

    def test_the_rest_of_what_is_documented(self):
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
        self.assertIn(SEEN, self.ask([{"type": "image", "source": source}]).content[0].text)
        format = {"format": {"type": "json_schema", "schema": SCHEMA}}
        self.assertEqual(json.loads(self.ask("Oslo", output_config=format).content[0].text)["degrees"], 7)
        stopped = self.ask("count to 9", stop_sequences=["5"])
        self.assertEqual((stopped.stop_reason, stopped.stop_sequence), ("stop_sequence", "5"))
        self.assertEqual(self.ask("count to 99", max_tokens=3).stop_reason, "max_tokens")
        self.assertGreater(self.client().messages.count_tokens(model="claude-standin", messages=[{"role": "user", "content": "Hi you"}]).input_tokens, 0)

    def test_what_is_wrong_is_named(self):
        for wrong, said in [
            ({"extra_body": {"temperature": 1.0}}, "temperature: Extra"), ({"extra_body": {"temperature": 1.5}, "extra_headers": {"anthropic-version": "2023-06-01"}}, "less than or equal to 1"), ({"extra_body": {"n": 1}}, "n: Extra inputs are not permitted"),
            ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content"), ({"messages": []}, "at least one message"),
        ]:
            with self.assertRaises(anthropic.BadRequestError) as caught:
                self.ask("x", **wrong)
            self.assertIn(said, str(caught.exception))
        with self.assertRaises(anthropic.AuthenticationError):
            anthropic.Anthropic(base_url=standins.url(self.kind), api_key="wrong", max_retries=0).messages.create(
                model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}])
        standins.behave(self.kind, {"kind": "overloaded"})
        with self.assertRaises(anthropic.APIStatusError) as caught:
            self.ask("x")
        self.assertEqual(caught.exception.status_code, 529)
        standins.behave(self.kind, {"kind": "error_after", "events": 3})
        with self.assertRaises(anthropic.APIError):
            list(self.ask("x", stream=True))


class Gemini(Case):
    kind = "gemini"
    model = "gemini-2.5-standin"

    def client(self):
        options = genai_types.HttpOptions(base_url=standins.url("gemini"))
        return genai.Client(api_key=KEY, http_options=options, vertexai=False)

    def ask(self, contents, model=None, **config):
        client = self.client()  # which closes when it is forgotten
        return client.models.generate_content(model=model or self.model, contents=contents, config=config or None)

    def test_an_answer_and_its_stream_say_the_same(self):
        whole = self.ask("Hello", system_instruction="Be brief.")
        self.assertEqual(whole.text, 'Told "Be brief.". You said: Hello')
        self.assertEqual(whole.candidates[0].finish_reason, "STOP")
        client = self.client()
        chunks = list(client.models.generate_content_stream(model=self.model, contents="Hello", config={"system_instruction": "Be brief."}))
        self.assertEqual("".join(chunk.text or "" for chunk in chunks), whole.text)
        self.assertEqual(chunks[-1].usage_metadata.total_token_count, whole.usage_metadata.total_token_count)

    def test_thoughts_and_calls_come_back_untouched(self):
        tool = {"function_declarations": [{"name": "weather", "parameters_json_schema": SCHEMA}]}
        config = {"tools": [tool], "automatic_function_calling": {"disable": True}, "thinking_config": {"include_thoughts": True}}
        first = self.ask('call weather {"city": "Oslo"}', model="gemini-3-standin", **config)
        self.assertEqual(first.function_calls[0].args, {"city": "Oslo"})
        self.assertGreater(first.usage_metadata.thoughts_token_count, 0)
        answer = genai_types.Content(role="user", parts=[genai_types.Part.from_function_response(name="weather", response={"result": "rain"})])
        ask = genai_types.Content(role="user", parts=[genai_types.Part(text="x")])
        turn = first.candidates[0].content
        turn.parts = [part for part in turn.parts if part.function_call]
        after = self.ask([ask, turn, answer], model="gemini-3-standin", **config)
        self.assertEqual(after.text, "The tools said: rain")
        turn.parts[0].thought_signature = None
        with self.assertRaises(genai_errors.ClientError):
            self.ask([ask, turn, answer], model="gemini-3-standin", **config)

    def test_the_rest_of_what_is_documented(self):
        picture = genai_types.Part.from_bytes(data=PNG, mime_type="image/png")
        self.assertIn(SEEN, self.ask([picture, "What?"]).text)
        value = self.ask("Oslo", response_mime_type="application/json", response_json_schema=SCHEMA).text
        self.assertEqual(json.loads(value)["degrees"], 7)
        self.assertEqual(self.ask("count to 99", max_output_tokens=3).candidates[0].finish_reason, "MAX_TOKENS")
        self.assertEqual(self.ask(LONG).usage_metadata.cached_content_token_count, None)
        self.assertGreaterEqual(self.ask(LONG).usage_metadata.cached_content_token_count, 1024)
        client = self.client()
        self.assertGreater(client.models.count_tokens(model=self.model, contents="Hi").total_tokens, 0)

    def test_what_is_wrong_is_named(self):
        with self.assertRaises(genai_errors.ClientError) as caught:
            self.ask("x", temperature=3)
        self.assertEqual((caught.exception.code, caught.exception.status), (400, "INVALID_ARGUMENT"))


class Vertex(Gemini):
    kind = "vertex"

    def client(self):
        from google.oauth2 import service_account

        account = {"type": "service_account", "client_email": "standin@standin.example", "private_key": PRIVATE, "private_key_id": "1",
                   "token_uri": standins.url("vertex") + "/token", "project_id": "p"}
        credentials = service_account.Credentials.from_service_account_info(account, scopes=["https://www.googleapis.com/auth/cloud-platform"])
        options = genai_types.HttpOptions(base_url=standins.url("vertex"))
        return genai.Client(vertexai=True, project="p", location="us-central1", credentials=credentials, http_options=options)


class Bedrock(Case):
    kind = "bedrock"
    model = "anthropic.claude-standin-v1:0"

    def client(self, secret=SECRET):
        return boto3.client("bedrock-runtime", endpoint_url=standins.url("bedrock"), region_name=REGION, aws_access_key_id=KEY,
                            aws_secret_access_key=secret, config=Config(retries={"max_attempts": 0}))

    def ask(self, content, client=None, **options):
        content = [{"text": content}] if isinstance(content, str) else content
        return (client or self.client()).converse(modelId=self.model, **{"messages": [{"role": "user", "content": content}], **options})

    def streamed(self, content, **options):
        answer = self.client().converse_stream(modelId=self.model, messages=[{"role": "user", "content": [{"text": content}]}], **options)
        return list(answer["stream"])

    def test_an_answer_and_its_stream_say_the_same(self):
        whole = self.ask("Hello", system=[{"text": "Be brief."}])
        text = whole["output"]["message"]["content"][0]["text"]
        self.assertEqual(text, 'Told "Be brief.". You said: Hello')
        self.assertEqual(whole["stopReason"], "end_turn")
        events = self.streamed("Hello", system=[{"text": "Be brief."}])
        self.assertEqual("".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e), text)
        self.assertEqual(events[-1]["metadata"]["usage"], whole["usage"])

    def test_thoughts_and_calls_come_back_untouched(self):
        tools = {"toolConfig": {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}]},
                 "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
        ask = 'call weather {"city": "Oslo"}'
        first = self.ask(ask, **tools)
        turn = first["output"]["message"]
        self.assertEqual(first["stopReason"], "tool_use")
        call = turn["content"][1]["toolUse"]
        self.assertEqual(call["input"], {"city": "Oslo"})
        result = {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": "rain"}]}}
        history = [{"role": "user", "content": [{"text": ask}]}, turn, {"role": "user", "content": [result]}]
        self.assertEqual(self.ask("", messages=history, **tools)["output"]["message"]["content"][-1]["text"], "The tools said: rain")
        turn["content"][0]["reasoningContent"]["reasoningText"]["text"] += "!"
        with self.assertRaises(ClientError):
            self.ask("", messages=history, **tools)
        pieces = [e["contentBlockDelta"]["delta"]["toolUse"]["input"] for e in self.streamed(ask, **tools) if "toolUse" in e.get("contentBlockDelta", {}).get("delta", {})]
        self.assertEqual(json.loads("".join(pieces)), {"city": "Oslo"})

    def test_the_rest_of_what_is_documented(self):
        picture = {"image": {"format": "png", "source": {"bytes": PNG}}}
        self.assertIn(SEEN, self.ask([picture, {"text": "What?"}])["output"]["message"]["content"][0]["text"])
        document = {"document": {"format": "txt", "name": "notes", "source": {"bytes": b"abc"}}}
        self.assertIn("text/plain of 3 bytes", self.ask([document, {"text": "What?"}])["output"]["message"]["content"][0]["text"])
        self.assertEqual(self.ask("count to 99", inferenceConfig={"maxTokens": 3})["stopReason"], "max_tokens")
        marked = [{"text": LONG}, {"cachePoint": {"type": "default"}}, {"text": "So?"}]
        first, second = self.ask(marked)["usage"], self.ask(marked)["usage"]
        self.assertGreater(first["cacheWriteInputTokens"], 1024)
        self.assertEqual(second["cacheReadInputTokens"], first["cacheWriteInputTokens"])

    def test_what_is_wrong_is_named(self):
        with self.assertRaises(ClientError) as caught:
            self.ask("x", client=self.client("wrong"))
        self.assertEqual(caught.exception.response["Error"]["Code"], "InvalidSignatureException")
        with self.assertRaises(ClientError) as caught:
            self.ask("x", messages=[{"role": "assistant", "content": [{"text": "x"}]}])
        self.assertEqual(caught.exception.response["Error"]["Code"], "ValidationException")
        standins.behave(self.kind, {"kind": "rate_limited", "retry": "none", "seconds": 1})
        with self.assertRaises(ClientError) as caught:
            self.ask("x")
        self.assertEqual(caught.exception.response["Error"]["Code"], "ThrottlingException")
        standins.behave(self.kind, {"kind": "error_after", "events": 2})
        with self.assertRaises(EventStreamError):
            self.streamed("x")
        standins.behave(self.kind, {"kind": "tiny_writes", "bytes": 1})
        self.assertEqual(len([e for e in self.streamed("Hello") if "contentBlockDelta" in e]), 3)


if __name__ == "__main__":
    unittest.main()
