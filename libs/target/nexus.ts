import { Sense, type SenseCode } from './scsi-codes.ts';

/** Unit attentions that one nexus may have waiting on one unit; the oldest is dropped beyond it. */
const UNIT_ATTENTIONS_MAX = 8;

/** An initiator port (name and ISID) and a target portal group: what unit attentions are kept for. */
export class Nexus {
  readonly initiatorName: string;
  readonly isid: string;
  readonly tpgt: number;
  readonly #attentions = new Map<number, SenseCode[]>();

  constructor(initiatorName: string, isid: string, tpgt: number) {
    this.initiatorName = initiatorName;
    this.isid = isid;
    this.tpgt = tpgt;
  }

  /** Establishes a unit attention; one that is waiting already is not doubled. */
  attend(lun: number, code: SenseCode): void {
    let list = this.#attentions.get(lun);
    if (list === undefined) {
      list = [];
      this.#attentions.set(lun, list);
    }
    // A reset or power on clears what the unit would have said before (SAM-5 5.14).
    if (code[1] === Sense.powerOn[1]) list.length = 0;
    if (list.some((other) => other[1] === code[1] && other[2] === code[2])) return;
    list.push(code);
    if (list.length > UNIT_ATTENTIONS_MAX) list.shift();
  }

  /** Reports the oldest unit attention, once. */
  takeAttention(lun: number): SenseCode | null {
    if (this.#attentions.size === 0) return null;
    const list = this.#attentions.get(lun);
    if (list === undefined) return null;
    const code = list.shift() ?? null;
    if (list.length === 0) this.#attentions.delete(lun);
    return code;
  }
}
