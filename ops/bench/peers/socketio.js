// A Socket.IO server with the Redis Streams adapter and connection state recovery: `node socketio.js PORT REDIS_URL`.
// The adapter's bounds are raised (they are 10,000 packets and 100 reads), or the resume scenarios could not end.
const { createHmac, timingSafeEqual } = require("crypto");
const { createServer } = require("http");
const { createAdapter } = require("@socket.io/redis-streams-adapter");
const { createClient } = require("redis");
const { Server } = require("socket.io");

const [port, redisUrl] = process.argv.slice(2);

function userOf(token) {
  const [head, body, signature] = token.split(".");
  const made = createHmac("sha256", process.env.SECRET).update(`${head}.${body}`).digest();
  const given = Buffer.from(signature, "base64url");
  if (made.length !== given.length || !timingSafeEqual(made, given)) throw new Error("bad token");
  const claims = JSON.parse(Buffer.from(body, "base64url"));
  if (claims.exp < Date.now() / 1000) throw new Error("expired token");
  return claims.sub;
}

async function main() {
  const redis = createClient({ url: redisUrl });
  redis.on("error", (error) => console.error(error.message));
  await redis.connect();
  const server = createServer();
  const io = new Server(server, {
    transports: ["websocket"],
    perMessageDeflate: false,
    adapter: createAdapter(redis, { maxLen: 500_000, restoreSessionMaxXRangeCalls: 5_000 }),
    connectionStateRecovery: { maxDisconnectionDuration: 600_000, skipMiddlewares: true },
  });
  io.use((socket, next) => {
    try {
      socket.data.user = userOf(socket.handshake.auth.token);
      next();
    } catch (error) {
      next(error);
    }
  });
  io.on("connection", (socket) => {
    socket.on("sub", (channels, done) => {
      socket.join(channels);
      done();
    });
    socket.on("pub", (message, done) => {
      io.to(message.channel).emit("event", message);
      done();
    });
  });
  server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });
}

main();
