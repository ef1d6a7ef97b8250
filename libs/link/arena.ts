import { assert } from '../core/assert.ts';
import { LINK_PAYLOAD_BYTES_MAX } from '../core/limits.ts';

/** Places are told by the number of their first page: 16 bits of it reach 256 MiB. */
export const PAGE_BYTES = 4096;
export const PAGES_MAX = 0x10000;

const CHUNK_BYTES = LINK_PAYLOAD_BYTES_MAX;
const CHUNK_PAGES = CHUNK_BYTES / PAGE_BYTES;
/** What a chunk is cut into. */
const CLASS_PAGES: readonly number[] = [16, 64, CHUNK_PAGES];
const NO_CLASS = -1;

/**
 * Places for payloads in a stretch of memory, handed out and taken back by page number. Memory is cut into chunks, each of
 * which holds places of one size; what was given back last is taken first, since it is in the caches of the processor.
 */
export class Arena {
  /** By class: free places in chunks of that class. */
  readonly #free: number[][] = CLASS_PAGES.map(() => []);
  /** Chunks that are not cut yet, the lowest last. */
  readonly #whole: number[];
  readonly #classOf: Int8Array;
  readonly #taken: Uint8Array;

  constructor(bytes: number) {
    const chunks = bytes / CHUNK_BYTES;
    assert(Number.isInteger(chunks) && chunks > 0, 'an arena is of whole chunks');
    assert(bytes / PAGE_BYTES <= PAGES_MAX, 'a page number has 16 bits');
    this.#whole = Array.from({ length: chunks }, (_, i) => chunks - 1 - i);
    this.#classOf = new Int8Array(chunks).fill(NO_CLASS);
    this.#taken = new Uint8Array(chunks);
  }

  /** The first page of a place for `bytes` (LINK_PAYLOAD_BYTES_MAX at most), or -1 when all are taken. */
  take(bytes: number): number {
    assert(bytes > 0 && bytes <= CHUNK_BYTES, 'a payload fits a chunk');
    const index = CLASS_PAGES.findIndex((pages) => bytes <= pages * PAGE_BYTES);
    const free = this.#free[index]!;
    if (free.length === 0 && !this.#cut(index)) return -1;
    const page = free.pop()!;
    this.#taken[this.#chunkOf(page)]! += 1;
    return page;
  }

  /** How large the place at this page is, whatever it was taken for. */
  bytesOf(page: number): number {
    return CLASS_PAGES[this.#classOf[this.#chunkOf(page)]!]! * PAGE_BYTES;
  }

  give(page: number): void {
    const chunk = this.#chunkOf(page);
    assert(this.#taken[chunk]! > 0, 'a place is given back once');
    this.#taken[chunk]! -= 1;
    this.#free[this.#classOf[chunk]!]!.push(page);
  }

  #chunkOf(page: number): number {
    return Math.floor(page / CHUNK_PAGES);
  }

  #cut(index: number): boolean {
    const chunk = this.#whole.pop() ?? this.#reclaim();
    if (chunk === undefined) return false;
    const pages = CLASS_PAGES[index]!;
    this.#classOf[chunk] = index;
    for (let at = CHUNK_PAGES - pages; at >= 0; at -= pages) {
      this.#free[index]!.push(chunk * CHUNK_PAGES + at);
    }
    return true;
  }

  /** A chunk of another size of which nothing is in use. */
  #reclaim(): number | undefined {
    const chunk = this.#taken.indexOf(0);
    if (chunk < 0) return undefined;
    const index = this.#classOf[chunk]!;
    this.#free[index] = this.#free[index]!.filter((page) => this.#chunkOf(page) !== chunk);
    return chunk;
  }
}
