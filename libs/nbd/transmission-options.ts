import type { ByteDevice } from '../block/byte-device.ts';
import type { IoContext, TraceContext } from '../block/device.ts';
import type { Workload } from '../core/workload.ts';
import type { BufferPool } from '../wire/buffer-pool.ts';
import type { ByteStream } from '../wire/network.ts';
import type { OutQueue } from '../wire/out-queue.ts';
import type { Receiver } from '../wire/receiver.ts';
import type { NbdCmd } from './constants.ts';
import type { NbdLimits } from './limits.ts';
import type { RequestRules } from './request.ts';
import type { NbdStats } from './stats.ts';

/** What became of a request that failed, for logs: the client sees a number only. */
export interface RequestFailure {
  readonly command: string;
  readonly offset: number;
  readonly length: number;
  /** "EINVAL". */
  readonly errno: string;
  /** `client`: it asked for something that it may not. `device`: the volume failed. */
  readonly source: 'client' | 'device';
  readonly reason: string;
  readonly error?: unknown;
}

export interface TransmissionOptions {
  readonly device: ByteDevice;
  readonly rules: RequestRules;
  readonly io: IoContext;
  readonly limits: NbdLimits;
  readonly pool: BufferPool;
  readonly stream: ByteStream;
  readonly receiver: Receiver;
  readonly out: OutQueue;
  /** Of the whole server, and of this connection. */
  readonly stats: NbdStats;
  readonly own: NbdStats;
  readonly workload: Workload;
  readonly onRequest:
    | ((command: NbdCmd, offset: number, length: number) => TraceContext | undefined)
    | null;
  readonly onFailure: (failure: RequestFailure) => void;
  /** The peer broke the protocol: the connection is to be dropped. */
  readonly onViolation: (reason: string) => void;
  /** DISC, or a drain, and nothing is in flight any more: flush and end the connection. */
  readonly onFinished: () => void;
  /** The last request in flight of a connection that is gone has settled. */
  readonly onSettled: () => void;
}
