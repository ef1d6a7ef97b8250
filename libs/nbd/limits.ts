import {
  CLIENT_UNSENT_BYTES_MAX,
  CLIENTS_HELD_BYTES_MAX,
  CROWDED_CLIENT_BYTES_MAX,
  IO_BYTES_MAX,
  NBD_INFLIGHT_BYTES_MAX,
  NBD_INFLIGHT_REQUESTS_MAX,
} from '../core/limits.ts';

/** The bounds of an NBD server; each says what happens at it. */
export interface NbdLimits {
  /** Connections at a time; further ones are closed at once. */
  readonly connectionsMax: number;
  /** Connections in the handshake; at the bound the oldest of them is dropped, so that idle ones block nobody. */
  readonly handshakesMax: number;
  /** A handshake that takes longer is dropped. */
  readonly handshakeMs: number;
  /** Options of one connection, plus four for each export that was listed; then it is dropped. */
  readonly optionsMax: number;
  /** A longer READ or WRITE is refused; a WRITE of more than twice this drops the connection. */
  readonly requestBytesMax: number;
  /** At these three the socket is not read until half of the bound is free again. */
  readonly inflightRequestsMax: number;
  readonly inflightBytesMax: number;
  readonly unsentBytesMax: number;
  /** When so much of the pool is taken, by whomever, each connection is held to `crowdedBytesMax`. */
  readonly poolBytesMax: number;
  readonly crowdedBytesMax: number;
  /** After our end of a connection the client has this long to close its own. */
  readonly closeMs: number;
  /** While draining, a client in its handshake has this long to notice. */
  readonly drainHandshakeMs: number;
}

export const DEFAULT_NBD_LIMITS: NbdLimits = {
  connectionsMax: 1024,
  handshakesMax: 128,
  handshakeMs: 10_000,
  optionsMax: 64,
  requestBytesMax: IO_BYTES_MAX,
  inflightRequestsMax: NBD_INFLIGHT_REQUESTS_MAX,
  inflightBytesMax: NBD_INFLIGHT_BYTES_MAX,
  unsentBytesMax: CLIENT_UNSENT_BYTES_MAX,
  poolBytesMax: CLIENTS_HELD_BYTES_MAX,
  crowdedBytesMax: CROWDED_CLIENT_BYTES_MAX,
  closeMs: 2_000,
  drainHandshakeMs: 500,
};
