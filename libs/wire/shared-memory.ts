/**
 * Memory that two processes of one machine see. `node-shared-memory.ts` is the real one; tests have one in their own process.
 */
export interface SharedRegion {
  readonly bytes: Buffer;
  /**
   * Lets go of what is shared. Views that somebody still holds stay harmless: from now on they show memory of this process
   * alone, and nobody else sees what is written through them.
   */
  release(): void;
}

export interface OfferedRegion extends SharedRegion {
  /** What the other process opens it by. */
  readonly name: string;
  /** The other process has opened it, or never will: nobody opens it any more. */
  settle(): void;
}

export interface SharedMemory {
  /** Zeroed memory, taken from the system page by page as it is written. Throws where there is none to be had. */
  offer(bytes: number): OfferedRegion;
  /** What another process offers. Throws when it is not that, or not of that size for good. */
  open(name: string, bytes: number): SharedRegion;
}
