import { NbdCmd } from './constants.ts';

/** Plain counters, read by whoever wants to show them: adding to one costs nothing that can be measured. */
export interface NbdStats {
  connections: number;
  /** Closed at once because of `connectionsMax`, or dropped from a full handshake table. */
  refused: number;
  negotiated: number;
  protocolErrors: number;
  /** By command number; what has no number of ours counts at the end. */
  requests: number[];
  errors: number;
  bytesRead: number;
  bytesWritten: number;
  /** Times that a client's socket was not read because of a bound. */
  pauses: number;
}

const COMMANDS = Object.keys(NbdCmd).length + 1;

export function newStats(): NbdStats {
  return {
    connections: 0,
    refused: 0,
    negotiated: 0,
    protocolErrors: 0,
    requests: new Array<number>(COMMANDS).fill(0),
    errors: 0,
    bytesRead: 0,
    bytesWritten: 0,
    pauses: 0,
  };
}

export function countRequest(stats: NbdStats, command: number): void {
  stats.requests[command < COMMANDS ? command : COMMANDS - 1]! += 1;
}
