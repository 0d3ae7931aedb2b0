// Do the Node client libraries reach every provider? A smaller set than run.py's: text, a stream, tools, and a refusal.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const base = process.env.BASELOAD_URL;
const upstreams = process.env.MATRIX_UPSTREAMS.split(",");
const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: "not-needed-on-loopback", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: base, apiKey: "not-needed-on-loopback", maxRetries: 0 });
const said = "You said: Hello there";
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const call = 'call weather {"city": "Oslo"}';

for (const name of upstreams) {
  const model = `m-${name}`;

  test(`chat/${name}: a stream folds into the whole answer`, async () => {
    const messages = [{ role: "user", content: "Hello there" }];
    const whole = await openai.chat.completions.create({ model, messages });
    assert.equal(whole.choices[0].message.content, said);
    const stream = openai.chat.completions.stream({ model, messages, stream_options: { include_usage: true } });
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.content, said);
    assert.equal(final.choices[0].finish_reason, "stop");
    assert.equal(final.usage.total_tokens, whole.usage.total_tokens);
  });

  test(`chat/${name}: a tool is called and answered`, async () => {
    const tools = [{ type: "function", function: { name: "weather", parameters: schema } }];
    const messages = [{ role: "user", content: call }];
    const first = (await openai.chat.completions.create({ model, messages, tools })).choices[0].message;
    assert.deepEqual(JSON.parse(first.tool_calls[0].function.arguments), { city: "Oslo" });
    messages.push(first, { role: "tool", tool_call_id: first.tool_calls[0].id, content: "rain" });
    const after = await openai.chat.completions.create({ model, messages, tools });
    assert.equal(after.choices[0].message.content, "The tools said: rain");
  });

  test(`responses/${name}: a stream ends as it should`, async () => {
    const stream = openai.responses.stream({ model, input: "Hello there", store: false });
    const final = await stream.finalResponse();
    assert.equal(final.output_text, said);
    assert.equal(final.status, "completed");
  });

  test(`messages/${name}: a stream folds into the whole answer`, async () => {
    const ask = { model, max_tokens: 256, messages: [{ role: "user", content: "Hello there" }] };
    const whole = await anthropic.messages.create(ask);
    assert.equal(whole.content[0].text, said);
    const final = await anthropic.messages.stream(ask).finalMessage();
    assert.equal(final.content[0].text, said);
    assert.equal(final.stop_reason, "end_turn");
    assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  });

  test(`messages/${name}: a tool is called and answered`, async () => {
    const tools = [{ name: "weather", input_schema: schema }];
    const messages = [{ role: "user", content: call }];
    const first = await anthropic.messages.stream({ model, max_tokens: 256, messages, tools }).finalMessage();
    assert.equal(first.stop_reason, "tool_use");
    const use = first.content.find((block) => block.type === "tool_use");
    assert.deepEqual(use.input, { city: "Oslo" });
    messages.push({ role: "assistant", content: [{ type: "tool_use", id: use.id, name: use.name, input: use.input }] });
    messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "rain" }] });
    const after = await anthropic.messages.create({ model, max_tokens: 256, messages, tools });
    assert.equal(after.content[0].text, "The tools said: rain");
  });
}

test("what does not exist is not found, in each library's own words", async () => {
  const messages = [{ role: "user", content: "x" }];
  await assert.rejects(openai.chat.completions.create({ model: "none", messages }), OpenAI.NotFoundError);
  await assert.rejects(anthropic.messages.create({ model: "none", max_tokens: 1, messages }), Anthropic.NotFoundError);
});
