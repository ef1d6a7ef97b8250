/** Turns of one `run`: a device that reports a change at every look must not keep us busy for ever. */
const TURNS_MAX = 8;

/** Something that is looked at again when it may have changed: one look at a time, and one more for what came meanwhile. */
export class Recheck {
  readonly #look: () => Promise<void>;
  #running: Promise<void> = Promise.resolve();
  #busy = false;
  #again = false;

  /** `look` handles its own failures. */
  constructor(look: () => Promise<void>) {
    this.#look = look;
  }

  /** Resolves when what is true now, or was true later, has been seen. */
  run(): Promise<void> {
    this.#again = this.#busy;
    if (!this.#busy) this.#running = this.#loop();
    return this.#running;
  }

  async #loop(): Promise<void> {
    this.#busy = true;
    try {
      for (let turn = 1; turn <= TURNS_MAX; turn++) {
        this.#again = false;
        await this.#look();
        if (!this.#again) return;
      }
    } finally {
      // At once: whoever asks from now on was not seen by the last look.
      this.#busy = false;
    }
  }
}
