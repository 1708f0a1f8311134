/** The JavaScript client as a process: does what it reads on standard input, tells what it sees on standard output, a JSON object a line. */

import { createInterface } from "node:readline";

const [, , module, url, tokens, webSocketModule] = process.argv;
const { HubClient, HubError } = await import(module);
const WebSocket = webSocketModule ? (await import(webSocketModule)).default : globalThis.WebSocket;
const given = tokens.split(",");
const tell = (what) => console.log(JSON.stringify(what));
const hub = new HubClient(url, () => (given.length > 1 ? given.shift() : given[0]), { WebSocket, webSocketRetryMs: 500 });
hub.connect().catch(() => {}); // told by whoever follows

async function follow(channel, after) {
  try {
    for await (const item of hub.subscribe(channel, { after })) {
      if (item.kind === "event") tell({ saw: "event", seq: item.event.seq, text: item.event.payload.text, way: hub.transport });
      if (item.kind === "gap") tell({ saw: "gap", reason: item.reason, from_seq: item.from_seq, to_seq: item.to_seq });
      if (item.kind === "subscribed") tell({ saw: "subscribed" });
    }
  } catch (error) {
    tell(error instanceof HubError ? { saw: "over", code: error.code } : { saw: "broken" });
  }
}

async function send(channel, text, id) {
  try {
    const { payload } = await hub.command("chat.message", channel, { text }, id);
    tell({ saw: "stored", id, seq: payload.seq });
  } catch (error) {
    tell({ saw: "refused", id, code: error.code });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const told = JSON.parse(line);
  if (told.do === "follow") follow(told.channel, told.after);
  if (told.do === "send") send(told.channel, told.text, told.id);
}
hub.close();
