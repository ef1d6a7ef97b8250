import { Packr } from 'msgpackr';
import { errorText, isOrionError, OrionError, type Outcome } from '../core/errors.ts';
import { BUS_MESSAGE_BYTES_MAX } from '../core/limits.ts';
import type { Payload } from './bus.ts';
import { busErrors } from './errors.ts';

/** Text of an error that crosses the bus; longer is cut. */
const ERROR_TEXT_MAX = 1000;
const ERROR_FIELDS_MAX = 32;

/**
 * No records: their structure tables are state of one connection. Binaries are copied out of the receive
 * buffer: control messages are small, and a view that somebody kept would pin (or show) a stranger's bytes.
 */
const packr = new Packr({ useRecords: false, copyBuffers: true, structuredClone: false });

/** Throws BUS_TOO_LARGE beyond the bound, BUS_BAD_MESSAGE for what msgpack cannot carry. */
export function encodePayload(data: Payload, subject: string): Uint8Array {
  const bytes = pack(data, subject);
  if (bytes.length > BUS_MESSAGE_BYTES_MAX) {
    throw busErrors.make('BUS_TOO_LARGE', {
      fields: { subject, bytes: bytes.length, bytesMax: BUS_MESSAGE_BYTES_MAX },
    });
  }
  return bytes;
}

/** Throws BUS_BAD_MESSAGE for what is not msgpack. */
export function decodePayload(bytes: Uint8Array, subject: string): Payload {
  if (bytes.length > BUS_MESSAGE_BYTES_MAX) throw badMessage(subject, 'too large');
  try {
    return packr.unpack(bytes);
  } catch (cause) {
    throw badMessage(subject, errorText(cause), cause);
  }
}

/** What travels back to who asked: the answer, or the error with everything that decides about a retry. */
type Reply = { ok: Payload } | { error: WireError };

interface WireError {
  readonly code: string;
  readonly message: string;
  readonly outcome: Outcome;
  readonly errno: string;
  readonly hint: string;
  readonly fields: Record<string, string | number | boolean>;
}

export function encodeAnswer(value: Payload, subject: string): Uint8Array {
  try {
    return encodePayload({ ok: value } satisfies Reply, subject);
  } catch (error) {
    // The request was carried out; only its answer cannot be told.
    const outcome = 'unknown';
    if (!isOrionError(error)) throw error;
    return encodeFailure(new OrionError({ ...error, message: error.message, outcome }), subject);
  }
}

export function encodeFailure(error: unknown, subject: string): Uint8Array {
  return encodePayload({ error: toWire(error) } satisfies Reply, subject);
}

/** The answer, or throws the error that the other side threw. */
export function decodeReply(bytes: Uint8Array, subject: string): Payload {
  const reply = decodePayload(bytes, subject);
  if (typeof reply !== 'object' || reply === null) throw badMessage(subject, 'no reply envelope');
  if ('ok' in reply) return reply.ok;
  if ('error' in reply) throw fromWire(reply.error, subject);
  throw badMessage(subject, 'no reply envelope');
}

function pack(data: Payload, subject: string): Uint8Array {
  try {
    return packr.pack(data);
  } catch (cause) {
    throw badMessage(subject, errorText(cause), cause);
  }
}

/** A reply that cannot be read says nothing about what was done. */
function badMessage(subject: string, reason: string, cause?: unknown): OrionError {
  return busErrors.make('BUS_BAD_MESSAGE', {
    outcome: 'unknown',
    fields: { subject, reason },
    cause,
  });
}

function toWire(error: unknown): WireError {
  if (!isOrionError(error)) {
    const text = errorText(error).slice(0, ERROR_TEXT_MAX);
    return toWire(busErrors.make('BUS_REMOTE', { fields: { error: text } }));
  }
  const fields: WireError['fields'] = {};
  for (const [key, value] of Object.entries(error.fields).slice(0, ERROR_FIELDS_MAX)) {
    if (value === undefined) continue;
    fields[key] = typeof value === 'string' ? value.slice(0, ERROR_TEXT_MAX) : value;
  }
  return {
    code: error.code,
    message: error.message.slice(0, ERROR_TEXT_MAX),
    outcome: error.outcome,
    errno: error.errno,
    hint: error.hint.slice(0, ERROR_TEXT_MAX),
    fields,
  };
}

const OUTCOMES: readonly unknown[] = ['not-executed', 'terminated', 'unknown', 'final'];
const ERRNOS: readonly unknown[] = [
  'EPERM',
  'EIO',
  'ENOMEM',
  'EINVAL',
  'ENOSPC',
  'EOVERFLOW',
  'ENOTSUP',
  'ESHUTDOWN',
];

function fromWire(wire: unknown, subject: string): OrionError {
  if (typeof wire !== 'object' || wire === null) return badMessage(subject, 'no error envelope');
  const { code, message, outcome, errno, hint, fields } = wire as Partial<Record<string, unknown>>;
  if (typeof code !== 'string' || typeof message !== 'string' || !OUTCOMES.includes(outcome)) {
    return badMessage(subject, 'no error envelope');
  }
  return new OrionError({
    code,
    message,
    outcome: outcome as Outcome,
    hint: typeof hint === 'string' ? hint : '',
    fields: plainFields(fields),
    ...(ERRNOS.includes(errno) ? { errno: errno as OrionError['errno'] } : {}),
  });
}

function plainFields(fields: unknown): WireError['fields'] {
  const plain: WireError['fields'] = {};
  if (typeof fields !== 'object' || fields === null) return plain;
  for (const [key, value] of Object.entries(fields).slice(0, ERROR_FIELDS_MAX)) {
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
      plain[key] = value;
    }
  }
  return plain;
}
