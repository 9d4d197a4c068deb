// Swap SOL for USDC and watch it, with nothing but fetch and WebSocket (Node 22.6 or newer):
// node --experimental-strip-types examples/swap.ts http://127.0.0.1:8080

export {}; // a module: it waits at its top level

type Order = { orderId: string; status: string; version: number; amountOut: string | null };
type Told = { type: string; cursor?: string; orders?: Order[]; version?: number; status?: string };

const base = process.argv[2] ?? "http://127.0.0.1:8080";
const ended = new Set(["CONFIRMED", "FAILED", "CANCELLED", "EXPIRED"]);
const sleep = (ms: number) => new Promise((go) => setTimeout(go, ms));
let token = "";

async function ask<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      const answer = await fetch(base + path, {
        method,
        headers: { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}), ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(15_000),
      });
      if (answer.ok) return (await answer.json()) as T;
      const problem = (await answer.json()) as { code: string; detail: string; retryable: boolean };
      if (!problem.retryable || tried === 5) throw new Error(`${problem.code}: ${problem.detail}`);
      await sleep(1000 * Number(answer.headers.get("Retry-After") ?? 1));
    } catch (lost) {
      // No answer proves nothing. With an Idempotency-Key asking again is safe; without one a POST is not repeated.
      const repeatable = method !== "POST" || "Idempotency-Key" in headers;
      const network = lost instanceof TypeError || (lost instanceof DOMException && lost.name === "TimeoutError");
      if (!network || !repeatable || tried === 5) throw lost;
      await sleep(200 * 2 ** tried * (0.5 + Math.random() / 2));
    }
  }
}

// Browsers send no headers with a WebSocket: a ticket, good once, says who it is. The last cursor says where to go on.
async function watch(orderId: string, told: (message: Told) => boolean): Promise<void> {
  let cursor = "";
  for (let failures = 0; ; failures++) {
    const { ticket } = await ask<{ ticket: string }>("POST", "/api/auth/tickets");
    const query = new URLSearchParams({ orderId, ticket, ...(cursor ? { cursor } : {}) });
    const socket = new WebSocket(`${base.replace("http", "ws")}/api/ws/orders?${query}`);
    const closed = await new Promise<{ code: number; reason: string } | null>((end) => {
      // A socket may look open and be dead: heartbeats come every 25 s.
      let alive = setTimeout(() => end({ code: 0, reason: "" }), 60_000);
      socket.onmessage = (message) => {
        const said = JSON.parse(String(message.data)) as Told;
        failures = 0;
        cursor = said.cursor ?? cursor;
        alive = (clearTimeout(alive), setTimeout(() => end({ code: 0, reason: "" }), 60_000));
        if (told(said)) (clearTimeout(alive), end(null));
      };
      socket.onclose = ({ code, reason }) => (clearTimeout(alive), end({ code, reason }));
    });
    socket.close();
    if (!closed) return;
    if (closed.code === 4404 || closed.code === 4429) throw new Error(closed.reason); // coming back would not help
    const spread = Number(/reconnect in (\d+) ms/.exec(closed.reason)?.[1] ?? 0);
    await sleep(Math.max(spread, Math.min(10_000, 200 * 2 ** failures) * (0.5 + Math.random() / 2)));
  }
}

const email = `${crypto.randomUUID()}@example.com`;
({ token } = await ask<{ token: string }>("POST", "/api/auth/signup", { email, password: "correct horse battery" }));
const wanted = { tokenIn: "SOL", tokenOut: "USDC", amount: "1.5" };
// The key is made once: however often the request is repeated, one order comes of it.
const order = await ask<Order>("POST", "/api/orders", wanted, { "Idempotency-Key": crypto.randomUUID() });
await watch(order.orderId, (said) => {
  if (said.orders) return said.orders.some((one) => ended.has(one.status));
  console.log(said.version ?? "", said.type, said.status ?? "");
  return said.status !== undefined && ended.has(said.status);
});
const end = await ask<Order>("GET", `/api/orders/${order.orderId}`);
console.log(`${end.status}: ${wanted.amount} SOL became ${end.amountOut} USDC`);
