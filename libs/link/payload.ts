import { sharedPool } from '../wire/buffer-pool.ts';
import { type Lent, pooled } from '../wire/lent.ts';
import type { LinkRequest, Pending } from './client.ts';
import { FrameType } from './frame.ts';
import { type GatewayMemory, SHARED_BYTES_MIN } from './memory.ts';

/** Of a request whose payload goes with its frame. */
export const NO_PAGE = -1;

/**
 * A place in shared memory for the payload of a read or a write, with what is written in it. Without one a read that is to be
 * lent gets a buffer of the pool.
 */
export function placePayload(memory: GatewayMemory | null, request: LinkRequest): number {
  const { type, length, buffer, lends } = request;
  const bulk = type === FrameType.Read || type === FrameType.Write;
  const page = bulk && length >= SHARED_BYTES_MIN ? (memory?.take(length) ?? NO_PAGE) : NO_PAGE;
  if (page === NO_PAGE && lends) request.buffer = sharedPool.take(length);
  if (page !== NO_PAGE && type === FrameType.Write) memory!.copyIn(page, buffer!);
  return page;
}

/** The worker has answered. What a read resolves with; what is not lent is copied out at once, and its place is free. */
export function takePayload(
  memory: GatewayMemory | null,
  request: Pending,
  good: boolean,
): Lent | undefined {
  const { type, page, buffer, lends, length } = request;
  const read = type === FrameType.Read && good;
  if (page === NO_PAGE) {
    if (read && lends) return pooled(sharedPool, buffer!);
    dropPayload(request);
    return undefined;
  }
  if (read && lends) return memory!.lend(page, length);
  if (read) memory!.copyOut(page, buffer!);
  memory!.give(page);
  return undefined;
}

/** Nothing will be received for it any more. */
export function dropPayload({ lends, buffer }: LinkRequest): void {
  if (lends && buffer !== null) sharedPool.give(buffer);
}
