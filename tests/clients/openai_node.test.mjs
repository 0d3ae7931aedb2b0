// Does the OpenAI Node client work, unchanged, against a running server at $BASELOAD_URL?
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.BASELOAD_URL}/v1`, apiKey: "not-needed-on-loopback", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: "user", content: "What is TTFT?" }];

test("a stream says the same as the whole answer, and its usage too", async () => {
  const whole = await client.chat.completions.create({ model, messages, temperature: 0 });
  const stream = await client.chat.completions.create({ model, messages, temperature: 0, stream: true, stream_options: { include_usage: true } });
  let text = "", usage, reasons = [];
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    if (chunk.choices[0]?.finish_reason) reasons.push(chunk.choices[0].finish_reason);
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(reasons, ["stop"]);
  assert.equal(usage.total_tokens, whole.usage.total_tokens);
});

test("the stream helper folds chunks into the final message", async () => {
  const final = await client.chat.completions.stream({ model, messages, temperature: 0, max_tokens: 6 }).finalChatCompletion();
  assert.equal(final.choices[0].finish_reason, "length");
  assert.ok(final.choices[0].message.content.length > 0);
});

test("a client that leaves in mid-stream leaves the server well", async () => {
  const stream = await client.chat.completions.create({ model, messages, stream: true, max_tokens: 64 });
  for await (const _ of stream) break;
  const after = await client.chat.completions.create({ model, messages, max_tokens: 2 });
  assert.equal(after.usage.completion_tokens, 2);
});

test("completions and tokens work", async () => {
  const answer = await client.completions.create({ model, prompt: "Hello", max_tokens: 3, temperature: 0 });
  assert.equal(answer.usage.completion_tokens, 3);
});

test("errors name the parameter", async () => {
  await assert.rejects(client.chat.completions.create({ model, messages, top_p: 7 }), (error) => error.status === 400 && error.param === "top_p");
});
