import type { Extent } from '../block/device.ts';
import { scsiErrors } from '../scsi/errors.ts';
import { formatLun } from '../scsi/lun.ts';
import { IscsiLun } from './lun.ts';
import type { CopyResult } from './lun-copy.ts';

/**
 * A logical unit that told who it is and nothing else, since its port is in a state in which it takes no I/O. Its session can
 * be watched and fenced with. When the port serves again the session ends, and the next login learns the rest: until then
 * nothing is known of its cache, its size or its limits, so nothing is sent, and no flush over it says anything.
 */
export class UnsizedLun extends IscsiLun {
  override read(): Promise<void> {
    return this.#refuse();
  }

  override write(): Promise<void> {
    return this.#refuse();
  }

  override flush(): Promise<void> {
    return this.#refuse();
  }

  override trim(): Promise<void> {
    return this.#refuse();
  }

  override writeZeroes(): Promise<void> {
    return this.#refuse();
  }

  override extents(): Promise<Extent[]> {
    return this.#refuse();
  }

  override compareAndWrite(): Promise<number> {
    return this.#refuse();
  }

  override copyTo(): Promise<CopyResult> {
    return this.#refuse();
  }

  #refuse(): Promise<never> {
    const { targetName, portal } = this.session;
    const fields = { target: targetName, portal, lun: formatLun(this.lun) };
    return Promise.reject(scsiErrors.make('SCSI_PATH_STANDBY', { fields }));
  }
}
