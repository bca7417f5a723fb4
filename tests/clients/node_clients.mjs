// What Node's clients make of a server. Usage: node node_clients.mjs URL CLIENT; prints JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateObject, generateText, jsonSchema, streamText } from "ai";
import OpenAI from "openai";

const [url, client] = process.argv.slice(2);
const baseURL = `${url}/v1`;
const prompt = "recommend 3 items for user u001";
const schema = jsonSchema({ type: "object", properties: { items: { type: "array", items: { type: "object",
  properties: { title: { type: "string" } }, required: ["title"], additionalProperties: false } } }, required: ["items"],
additionalProperties: false });

async function streamed(model) {
  const found = streamText({ model, prompt, maxRetries: 0 });
  let text = "";
  for await (const part of found.textStream) text += part;
  return { text, reason: await found.finishReason };
}

const clients = {
  async openai() {
    const own = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
    const messages = [{ role: "user", content: prompt }];
    const whole = await own.chat.completions.create({ model: "toy", messages });
    let text = "";
    for await (const part of await own.chat.completions.create({ model: "toy", messages, stream: true })) {
      text += part.choices[0]?.delta?.content ?? "";
    }
    const packed = await own.embeddings.create({ model: "toy", input: "red 2" });
    const plain = await own.embeddings.create({ model: "toy", input: "red 2", encoding_format: "float" });
    const distance = Math.max(...packed.data[0].embedding.map((v, n) => Math.abs(v - plain.data[0].embedding[n])));
    const error = await own.chat.completions.create({ model: "other", messages }).catch((found) => [found.status, found.code]);
    return { text: whole.choices[0].message.content, streamed: text, embeddings_agree: distance, error };
  },
  async ai_sdk() {
    const model = createOpenAI({ baseURL, apiKey: "none" })("toy"); // the Responses API
    const whole = await generateText({ model, prompt, maxRetries: 0 });
    const form = await generateObject({ model, prompt, schema, maxRetries: 0 });
    const flow = await streamed(model);
    return { text: whole.text, streamed: flow.text, reason: flow.reason, structured: form.object };
  },
  async ai_sdk_compatible() {
    const provider = createOpenAICompatible({ name: "genrec", baseURL, supportsStructuredOutputs: true });
    const whole = await generateText({ model: provider("toy"), prompt, maxRetries: 0 });
    const form = await generateObject({ model: provider("toy"), prompt, schema, maxRetries: 0 });
    const flow = await streamed(provider("toy"));
    const { embedding } = await embed({ model: provider.textEmbeddingModel("toy"), value: "red 2" });
    return { text: whole.text, streamed: flow.text, reason: flow.reason, structured: form.object, width: embedding.length };
  },
};

console.log(JSON.stringify(await clients[client]()));
