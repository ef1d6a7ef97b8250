import { ScsiOp } from '../../scsi/opcodes.ts';
import { buildSense } from '../../scsi/sense.ts';
import type { ScsiCommand } from '../pdu/index.ts';
import type { FakeTarget } from './fake-target.ts';

const INVALID_FIELD = buildSense(5, 0x24, 0);
const INVALID_OPCODE = buildSense(5, 0x20, 0);

/** A disk of few words behind a fake target: it answers questions about itself, and everything else as it is told. */
export class FakeUnit {
  vendor = 'V';
  product = 'P';
  revision = '1';
  deviceType = 0;
  tpgs = 0;
  blocks = 1 << 21;
  blockBytes = 512;
  provisioned = false;
  readsZeroes = false;
  /** READ CAPACITY(16) is not known. */
  onlyShortCapacity = false;
  /** Vital product data pages by number, without their headers; 83h is made from `naa` unless it is here. */
  pages = new Map<number, Buffer>();
  naa: string | null = '3000000000000001';
  /** Byte 2 of the mode parameter header and of the caching page; null: MODE SENSE is refused. */
  mode: { readonly device: number; readonly caching: number } | null = {
    device: 0x10,
    caching: 0x04,
  };
  aluaState = 0;
  /** It claims target port groups, and does not know the command. */
  falseGroups = false;
  transitionSeconds = 10;
  /** Sense for all but questions who it is and of its groups: nothing else goes over a port in this state (SPC-4 §5.11.2). */
  closed: Buffer | null = null;
  /** Sense for the next commands that ask for nothing about the unit, in order; then they succeed. */
  senses: Buffer[] = [];
  /** Operation codes in the order of arrival. */
  ops: number[] = [];
  readonly #target: FakeTarget;

  constructor(target: FakeTarget) {
    this.#target = target;
  }

  answer(pdu: ScsiCommand): void {
    const op = pdu.cdb[0]!;
    this.ops.push(op);
    const open = op === ScsiOp.MaintenanceIn || op === ScsiOp.Inquiry;
    if (this.closed !== null && !open) return this.#sense(pdu, this.closed);
    switch (op) {
      case ScsiOp.MaintenanceIn:
        if (this.falseGroups) return this.#sense(pdu, INVALID_OPCODE);
        return this.#data(pdu, this.#groups());
      case ScsiOp.Inquiry:
        return this.#inquiry(pdu);
      case ScsiOp.ServiceActionIn16:
        if (this.onlyShortCapacity) return this.#sense(pdu, INVALID_OPCODE);
        return this.#data(pdu, this.#capacity());
      case ScsiOp.ReadCapacity10:
        return this.#data(pdu, this.#shortCapacity());
      case ScsiOp.ModeSense6: {
        if (this.mode === null) return this.#sense(pdu, INVALID_OPCODE);
        const page = [8, 18, this.mode.caching, ...Buffer.alloc(17)];
        return this.#data(pdu, Buffer.from([23, 0, this.mode.device, 0, ...page]));
      }
      default: {
        const sense = this.senses.shift();
        if (sense === undefined) return this.#target.respond(pdu);
        this.#sense(pdu, sense);
      }
    }
  }

  #sense(pdu: ScsiCommand, sense: Buffer): void {
    this.#target.respond(pdu, { sense });
  }

  #data(pdu: ScsiCommand, bytes: Buffer): void {
    const short = pdu.edtl - bytes.length;
    this.#target.dataIn(pdu, bytes.subarray(0, pdu.edtl), {
      status: 0,
      flags: short > 0 ? { underflow: true, residual: short } : {},
    });
  }

  #inquiry(pdu: ScsiCommand): void {
    if ((pdu.cdb[1]! & 1) === 0) {
      const data = Buffer.alloc(36);
      data[0] = this.deviceType;
      data[5] = this.tpgs << 4;
      data.write(this.vendor.padEnd(8), 8, 'ascii');
      data.write(this.product.padEnd(16), 16, 'ascii');
      data.write(this.revision.padEnd(4), 32, 'ascii');
      return this.#data(pdu, data);
    }
    const pages = new Map(this.pages);
    if (this.naa !== null && !pages.has(0x83)) {
      pages.set(0x83, Buffer.from(`0103${'0008'}${this.naa}5194000400000001`, 'hex'));
    }
    const number = pdu.cdb[2]!;
    const numbers = [...pages.keys()].sort((a, b) => a - b);
    const body = number === 0 ? Buffer.from([0, ...numbers]) : pages.get(number);
    if (body === undefined) return this.#sense(pdu, INVALID_FIELD);
    const header = Buffer.from([0, number, body.length >> 8, body.length & 0xff]);
    this.#data(pdu, Buffer.concat([header, body]));
  }

  #groups(): Buffer {
    const header = Buffer.from([0, 0, 0, 16, 0x10, this.transitionSeconds, 0, 0]);
    return Buffer.concat([
      header,
      Buffer.from([this.aluaState, 0xdf, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1]),
    ]);
  }

  #capacity(): Buffer {
    const data = Buffer.alloc(32);
    data.writeBigUInt64BE(BigInt(this.blocks - 1), 0);
    data.writeUInt32BE(this.blockBytes, 8);
    data[14] = (this.provisioned ? 0x80 : 0) | (this.readsZeroes ? 0x40 : 0);
    return data;
  }

  #shortCapacity(): Buffer {
    const data = Buffer.alloc(8);
    data.writeUInt32BE(Math.min(this.blocks - 1, 0xffffffff), 0);
    data.writeUInt32BE(this.blockBytes, 4);
    return data;
  }
}
