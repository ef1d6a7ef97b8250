import type { BusMessage, Payload } from './bus.ts';
import { decodePayload, encodeAnswer, encodeFailure } from './codec.ts';
import { busErrors } from './errors.ts';

/** Requests that one `serve` works on at a time; more are refused. */
export const SERVE_INFLIGHT_MAX = 1024;

/** Runs the handler of one `serve` and makes a reply of whatever comes out. Bounded. */
export class ServeLimit {
  readonly #handler: (message: BusMessage) => Promise<Payload>;
  #inFlight = 0;

  constructor(handler: (message: BusMessage) => Promise<Payload>) {
    this.#handler = handler;
  }

  /** The encoded reply. Never rejects. */
  async answer(subject: string, bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#inFlight >= SERVE_INFLIGHT_MAX) {
      return encodeFailure(busErrors.make('BUS_OVERLOADED', { fields: { subject } }), subject);
    }
    this.#inFlight += 1;
    try {
      const data = decodeRequest(bytes, subject);
      return encodeAnswer(await this.#handler({ subject, data }), subject);
    } catch (error) {
      return encodeFailure(error, subject);
    } finally {
      this.#inFlight -= 1;
    }
  }
}

/** What cannot be read is certainly not carried out. */
function decodeRequest(bytes: Uint8Array, subject: string): Payload {
  try {
    return decodePayload(bytes, subject);
  } catch (cause) {
    throw busErrors.make('BUS_BAD_MESSAGE', { fields: { subject }, cause });
  }
}
