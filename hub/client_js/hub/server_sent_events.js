/** Reads a stream of Server-Sent Events as the hub writes them. `EventSource` cannot send a token. @module hub/server_sent_events */

/** Yield the data of each event, and an empty text for each comment. @param {ReadableStream<Uint8Array>} body @returns {AsyncGenerator<string>} */
export async function* serverSentEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let rest = "";
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      const blocks = (rest + piece.value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) yield dataOf(block);
    }
  } finally {
    await reader.cancel().catch(() => {}); // it has ended already
  }
}

/** @param {string} block the lines of one event */
function dataOf(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(line[5] === " " ? 6 : 5)).join("\n");
}
