import type { IoRequest } from './request.ts';

/** Requests that wait for a usable path: bounded in bytes, and each in time. */
export class WaitingRoom {
  readonly #bytesMax: number;
  #requests: IoRequest[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get length(): number {
    return this.#requests.length;
  }

  /** False when there is no room: at least one request always fits. */
  enter(request: IoRequest): boolean {
    if (this.#bytes > 0 && this.#bytes + request.length > this.#bytesMax) return false;
    this.#requests.push(request);
    this.#bytes += request.length;
    return true;
  }

  /** Everybody out, in the order they came. */
  drain(): IoRequest[] {
    const all = this.#requests;
    this.#requests = [];
    this.#bytes = 0;
    return all;
  }

  /** Takes out those whose time is up. */
  expired(nowMs: number): IoRequest[] {
    if (this.#requests.length === 0) return [];
    const late = this.#requests.filter((request) => nowMs >= request.giveUpMs);
    if (late.length === 0) return late;
    this.#requests = this.#requests.filter((request) => nowMs < request.giveUpMs);
    for (const request of late) this.#bytes -= request.length;
    return late;
  }
}
