import { scsiErrors } from '../scsi/errors.ts';
import { senseText, verdictError } from '../scsi/sense-table.ts';
import { putSynchronizeCache10, putSynchronizeCache16 } from '../scsi/synchronize-cache.ts';
import { type RunOptions, run, runChecked } from './execute.ts';
import type { IscsiLun } from './lun.ts';
import type { LunWatch } from './lun-watch.ts';

/** Makes what was acknowledged durable (I10). Every failure is told: that of the command, and those that came late. */
export class LunFlush {
  readonly #lun: IscsiLun;
  readonly #watch: LunWatch;
  /** The device knows the 16-byte form alone: found out by trying. */
  #long = false;
  /** Flushes that were ordered, and the newest of them that succeeded. Those that a FUA write needs are not ordered. */
  ordered = 0;
  newestGood = 0;

  constructor(lun: IscsiLun, watch: LunWatch) {
    this.#lun = lun;
    this.#watch = watch;
  }

  async order(options: RunOptions): Promise<void> {
    this.ordered += 1;
    const number = this.ordered;
    await this.run(options);
    this.newestGood = Math.max(this.newestGood, number);
  }

  async run(options: RunOptions): Promise<void> {
    const { session, lun, caps } = this.#lun;
    this.#throwDeferred();
    if (!caps.volatileCache) return;
    if (!this.#long) {
      const result = await run(session, lun, { cdb: putSynchronizeCache10 }, options);
      if (result.good) return this.#throwDeferred();
      if (result.verdict.code !== 'SCSI_UNSUPPORTED') {
        throw verdictError(result.verdict, result.op, { device: this.#lun.name });
      }
      this.#long = true;
    }
    await runChecked(session, lun, { cdb: putSynchronizeCache16 }, options);
    this.#throwDeferred();
  }

  /** An acknowledged write that failed later is told to the next flush, once (I5 of failover.md). */
  #throwDeferred(): void {
    const sense = this.#watch.takeDeferred();
    if (sense === null) return;
    throw scsiErrors.make('SCSI_DEFERRED_ERROR', {
      fields: { device: this.#lun.name, sense: senseText(sense.key, sense.asc, sense.ascq) },
    });
  }
}
