// Swap SOL for USDC and watch it, with nothing but fetch and WebSocket:
// node --experimental-strip-types examples/swap.ts http://127.0.0.1:8080

export {}; // a module: it waits at its top level

type Order = { orderId: string; status: string; version: number; amountOut: string | null };
type Told = { type: string; cursor: string; orders?: Order[]; version?: number; status?: string };

const base = process.argv[2] ?? "http://127.0.0.1:8080";
const ended = new Set(["CONFIRMED", "FAILED", "CANCELLED", "EXPIRED"]);
let token = "";

async function ask<T>(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  for (let tried = 1; ; tried++) {
    const answer = await fetch(base + path, {
      method,
      headers: { "Content-Type": "application/json", ...(token ? { Authorization: `Bearer ${token}` } : {}), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (answer.ok) return (await answer.json()) as T;
    const problem = (await answer.json()) as { code: string; detail: string; retryable: boolean };
    if (!problem.retryable || tried === 5) throw new Error(`${problem.code}: ${problem.detail}`);
    await new Promise((go) => setTimeout(go, 1000 * Number(answer.headers.get("Retry-After") ?? 1)));
  }
}

// Browsers send no headers with a WebSocket: a ticket, good once, says who it is. The last cursor says where to go on.
async function watch(orderId: string, told: (message: Told) => boolean): Promise<void> {
  let cursor = "";
  for (let done = false; !done; ) {
    const { ticket } = await ask<{ ticket: string }>("POST", "/api/auth/tickets");
    const query = new URLSearchParams({ orderId, ticket, ...(cursor ? { cursor } : {}) });
    const socket = new WebSocket(`${base.replace("http", "ws")}/api/ws/orders?${query}`);
    done = await new Promise<boolean>((end) => {
      socket.onmessage = (message) => {
        const said = JSON.parse(String(message.data)) as Told;
        cursor = said.cursor ?? cursor;
        if (told(said)) end(true);
      };
      socket.onclose = () => end(false);
    });
    socket.close();
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
