import { createHash, timingSafeEqual } from 'node:crypto';
import { isOrionError, OrionError, type Outcome } from '../core/errors.ts';
import { asPathAccess } from '../multipath/access.ts';
import type { UnitAttention } from '../multipath/path.ts';
import { linkErrors } from './errors.ts';
import { LINK_MEMORY_BYTES } from './memory.ts';

/** What both sides of a link say of themselves first. */
export interface Hello {
  /** From a gateway: the token that the worker has told over the bus. */
  readonly token?: string;
  readonly cluster: string;
  /** Worker or gateway id. */
  readonly id: string;
  /** Of the process. */
  readonly incarnation: string;
  /** From a gateway on the same machine: memory for payloads. */
  readonly memory?: MemoryOffer;
}

/** Shared memory by name. */
export interface MemoryOffer {
  readonly name: string;
  readonly bytes: number;
}

/** The worker's HELLO also grants credit. */
export interface HelloReply extends Hello {
  readonly requests: number;
  readonly bytes: number;
  /** It has the memory that it was offered. */
  readonly shares?: boolean;
}

function parse(bytes: Buffer): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function isHello(value: Record<string, unknown>): boolean {
  return ['cluster', 'id', 'incarnation'].every((key) => typeof value[key] === 'string');
}

function sameToken(given: unknown, wanted: string): boolean {
  if (typeof given !== 'string') return false;
  const [a, b] = [given, wanted].map((text) => createHash('sha256').update(text).digest());
  return timingSafeEqual(a!, b!);
}

/** Why the peer is not one to talk to; null when it is. `token`: what it must know. */
export function checkHello(bytes: Buffer, own: Hello, token: string): string | null {
  const value = parse(bytes);
  if (value === null || !isHello(value)) return 'its HELLO is malformed';
  if (value.cluster !== own.cluster) {
    return `it belongs to cluster "${value.cluster}", we to "${own.cluster}"`;
  }
  if (!sameToken(value.token, token)) return 'it does not know the token of this worker';
  return null;
}

/** What a gateway that was let in offers; null when it offers nothing that could be used. */
export function offeredMemory(hello: Buffer): MemoryOffer | null {
  const offer = parse(hello)?.memory as Partial<MemoryOffer> | null | undefined;
  if (typeof offer?.name !== 'string' || !Number.isSafeInteger(offer.bytes)) return null;
  return offer.bytes === LINK_MEMORY_BYTES ? (offer as MemoryOffer) : null;
}

export function decodeHelloReply(bytes: Buffer): HelloReply | null {
  const value = parse(bytes);
  if (value === null || !isHello(value)) return null;
  const { requests, bytes: credit } = value;
  if (!Number.isSafeInteger(requests) || !Number.isSafeInteger(credit)) return null;
  if ((requests as number) < 1 || (credit as number) < 1) return null;
  return value as unknown as HelloReply;
}

/** An error on its way to the other process; its meaning for data in flight travels with it. */
export function encodeError(error: unknown): object {
  if (!isOrionError(error)) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: 'LINK_LOST', message, outcome: 'unknown', errno: 'EIO', hint: '', fields: {} };
  }
  const { code, message, outcome, errno, hint, fields } = error;
  return { code, message, outcome, errno, hint, fields };
}

const OUTCOMES: readonly Outcome[] = ['not-executed', 'terminated', 'unknown', 'final'];

/** What cannot be understood is of unknown outcome: the safe reading. */
export function decodeError(bytes: Buffer): OrionError {
  const value = parse(bytes);
  if (
    value === null ||
    typeof value.code !== 'string' ||
    typeof value.message !== 'string' ||
    !OUTCOMES.includes(value.outcome as Outcome)
  ) {
    return linkErrors.make('LINK_PROTOCOL', { message: 'an error came in a form not understood' });
  }
  const fields = typeof value.fields === 'object' && value.fields !== null ? value.fields : {};
  return new OrionError({
    code: value.code,
    message: value.message,
    outcome: value.outcome as Outcome,
    errno: (typeof value.errno === 'string' ? value.errno : 'EIO') as OrionError['errno'],
    hint: typeof value.hint === 'string' ? value.hint : '',
    fields: fields as OrionError['fields'],
  });
}

export function decodeAttention(bytes: Buffer): UnitAttention | null {
  const value = parse(bytes);
  if (value === null || typeof value.text !== 'string') return null;
  if (!Number.isInteger(value.asc) || !Number.isInteger(value.ascq)) return null;
  const access = value.access === undefined ? undefined : asPathAccess(value.access);
  if (access === null) return null;
  const { sizeBytes } = value;
  if (sizeBytes !== undefined && !Number.isSafeInteger(sizeBytes)) return null;
  return {
    asc: value.asc as number,
    ascq: value.ascq as number,
    text: value.text,
    ...(access === undefined ? {} : { access }),
    ...(sizeBytes === undefined ? {} : { sizeBytes: sizeBytes as number }),
    ...(value.deferred === true ? { deferred: true } : {}),
    ...(value.volatileCache === true ? { volatileCache: true } : {}),
  };
}
