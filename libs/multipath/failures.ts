import type { OrionError, Outcome } from '../core/errors.ts';
import { multipathErrors } from './errors.ts';

interface Place {
  readonly offset: number;
  readonly length: number;
}

/** How I/O of one volume fails, with where it was. */
export class Failures {
  readonly #volume: string;

  constructor(volume: string) {
    this.#volume = volume;
  }

  noPath({ offset, length }: Place): OrionError {
    const fields = { volume: this.#volume, offset, length };
    return multipathErrors.make('MULTIPATH_NO_PATH', { fields });
  }

  notFenced({ offset, length }: Place): OrionError {
    const fields = { volume: this.#volume, offset, length };
    return multipathErrors.make('MULTIPATH_NOT_FENCED', { fields });
  }

  /** `bytes`: what waits already. */
  queueFull(bytes: number): OrionError {
    return multipathErrors.make('MULTIPATH_QUEUE_FULL', {
      fields: { volume: this.#volume, bytes },
    });
  }

  cacheLost(): OrionError {
    return multipathErrors.make('MULTIPATH_CACHE_LOST', { fields: { volume: this.#volume } });
  }

  /** Of what may still execute the outcome is unknown. */
  closed(outcome: Outcome = 'not-executed'): OrionError {
    return multipathErrors.make('MULTIPATH_CLOSED', { outcome, fields: { volume: this.#volume } });
  }
}
