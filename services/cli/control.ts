import { errorText } from '#core/errors.ts';
import { type ByteStream, formatAddress, type Listener, type StreamSink } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { cliErrors } from './errors.ts';

/**
 * The control socket of an embedded node: one line of JSON asks, one line answers, then the connection ends. The file
 * of the socket is for its owner alone, so whoever connects may ask.
 */

const REQUEST_BYTES_MAX = 1024;
const REPLY_BYTES_MAX = 64 * 1024 * 1024;
/** More at a time are refused. */
const CONNECTIONS_MAX = 32;
const CONNECT_TIMEOUT_MS = 3000;
const REPLY_TIMEOUT_MS = 10_000;
const NEWLINE = 0x0a;

/** What may be asked, each with what its request holds beside `op`. */
export type ControlHandlers = Readonly<Record<string, (request: unknown) => Promise<unknown>>>;

export async function serveControl(path: string, handlers: ControlHandlers): Promise<Listener> {
  let open = 0;
  return nodeNetwork.listen({ kind: 'unix', path }, (stream) => {
    open += 1;
    const isRefused = open > CONNECTIONS_MAX;
    if (isRefused) stream.destroy();
    return lineSink(REQUEST_BYTES_MAX, {
      line: (text) => {
        if (!isRefused) void answer(stream, text, handlers); // it answers with what goes wrong
      },
      tooLong: () => reply(stream, { ok: false, error: 'the request is too long' }),
      closed: () => {
        open -= 1;
      },
    });
  });
}

async function answer(stream: ByteStream, text: string, handlers: ControlHandlers): Promise<void> {
  try {
    const { op, request } = requestOf(text);
    if (!Object.hasOwn(handlers, op)) return reply(stream, { ok: false, error: 'unknown request' });
    reply(stream, { ok: true, data: await handlers[op]!(request) });
  } catch (error) {
    reply(stream, { ok: false, error: errorText(error) });
  }
}

function requestOf(text: string): { readonly op: string; readonly request: unknown } {
  try {
    const { op, request } = JSON.parse(text) as { op?: unknown; request?: unknown };
    return { op: String(op), request };
  } catch {
    return { op: '', request: null }; // not JSON, or null: an unknown request
  }
}

function reply(stream: ByteStream, content: object): void {
  stream.writev([Buffer.from(`${JSON.stringify(content)}\n`)], () => {});
  stream.end();
}

interface LineListener {
  line(text: string): void;
  tooLong(): void;
  closed(error: Error | null): void;
}

/** Hands on the first line, and nothing after it. */
function lineSink(bytesMax: number, listener: LineListener): StreamSink {
  let chunks: Buffer[] = [];
  let bytes = 0;
  let isDone = false;
  return {
    buffer: () => Buffer.allocUnsafe(64 * 1024),
    data(chunk, length) {
      if (isDone) return;
      const end = chunk.subarray(0, length).indexOf(NEWLINE);
      chunks.push(Buffer.from(chunk.subarray(0, end < 0 ? length : end)));
      bytes += length;
      if (end < 0 && bytes <= bytesMax) return;
      isDone = true;
      if (end < 0) listener.tooLong();
      else listener.line(Buffer.concat(chunks).toString());
      chunks = [];
    },
    closed: (error) => listener.closed(error),
  };
}

/** Asks the node behind a control socket. Rejects with CLI_NOT_RUNNING when nobody listens. */
export async function askControl(
  path: string,
  op: string,
  request: object = {},
  timeoutMs = REPLY_TIMEOUT_MS,
): Promise<unknown> {
  const address = { kind: 'unix', path } as const;
  const text = await new Promise<string>((resolve, reject) => {
    const sink = lineSink(REPLY_BYTES_MAX, {
      line: resolve,
      tooLong: () => reject(noAnswer(path, 'its answer is too long')),
      closed: () => reject(noAnswer(path, 'it hung up')),
    });
    nodeNetwork.connect(address, sink, { timeoutMs: CONNECT_TIMEOUT_MS }).then(
      (stream) => {
        stream.writev([Buffer.from(`${JSON.stringify({ op, request })}\n`)], () => {});
        const timer = setTimeout(() => stream.destroy(), timeoutMs);
        timer.unref();
      },
      (cause) =>
        reject(
          cliErrors.make('CLI_NOT_RUNNING', {
            message: `nobody listens on ${formatAddress(address)}`,
            cause,
          }),
        ),
    );
  });
  const { ok, data, error } = JSON.parse(text) as { ok?: boolean; data?: unknown; error?: string };
  if (ok !== true) throw noAnswer(path, String(error));
  return data;
}

function noAnswer(path: string, why: string) {
  return cliErrors.make('CLI_NO_ANSWER', { message: `no answer from ${path}: ${why}` });
}
