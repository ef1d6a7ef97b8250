import type { NbdRequest } from './request.ts';

/**
 * Longest read that is made of several: large enough to save most of what a request costs on its way, small enough to keep
 * several of them under way while a client reads in sequence.
 */
const RUN_BYTES_MAX = 256 * 1024;

/**
 * READs that follow each other both in the stream and on the device. Clients that read in sequence have many small ones in
 * flight; what arrives together is read together.
 */
export class ReadRun {
  #requests: NbdRequest[] = [];
  #bytes = 0;

  get empty(): boolean {
    return this.#requests.length === 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Where it begins. */
  get offset(): number {
    return this.#requests[0]!.offset;
  }

  /** The request, when there is one alone. */
  get single(): NbdRequest | null {
    return this.#requests.length === 1 ? this.#requests[0]! : null;
  }

  /** True when the run may go on with this request. */
  fits(request: NbdRequest): boolean {
    if (this.#requests.length === 0) return true;
    const bytes = this.#bytes + request.length;
    return bytes <= RUN_BYTES_MAX && request.offset === this.offset + this.#bytes;
  }

  add(request: NbdRequest): void {
    this.#requests.push(request);
    this.#bytes += request.length;
  }

  clear(): void {
    this.#requests.length = 0;
    this.#bytes = 0;
  }

  /** Empties the run. */
  takeAll(): readonly NbdRequest[] {
    const requests = this.#requests;
    this.#requests = [];
    this.#bytes = 0;
    return requests;
  }
}
