import { timingSafeEqual } from 'node:crypto';
import { inspect } from 'node:util';

const MASK = '***';

/** Bytes that must not be seen: whatever prints, logs or serialises the object shows stars. */
export class Secret {
  readonly #bytes: Buffer;

  constructor(bytes: string | Uint8Array) {
    this.#bytes = Buffer.from(bytes);
  }

  get length(): number {
    return this.#bytes.length;
  }

  /** Hands the bytes to a hash or a cipher. Keep no copy. */
  use<T>(take: (bytes: Uint8Array) => T): T {
    return take(this.#bytes);
  }

  equals(other: Secret): boolean {
    return this.#bytes.length === other.#bytes.length && timingSafeEqual(this.#bytes, other.#bytes);
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
