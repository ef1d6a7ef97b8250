import type { BlockDevice } from '../block/device.ts';
import { MIN_BLOCK_BYTES_MAX, TransmissionFlag } from './constants.ts';
import type { BlockSizes } from './options.ts';

/** Who is at the other end of a connection. */
export interface NbdClientInfo {
  /** Counts up over the life of the server. */
  readonly id: number;
  /** "127.0.0.1:4242", or the path of the socket that was connected to. */
  readonly remote: string;
}

export interface NbdExport {
  /** Canonical: what LIST shows and INFO_NAME answers, whatever alias was asked for. */
  readonly name: string;
  readonly description: string;
  readonly device: BlockDevice;
  /** Narrows the device: writes fail with EPERM. */
  readonly readOnly?: boolean;
  /**
   * True (the default): flush and FUA on one connection cover all connections and all gateways of this device,
   * which holds when a write is acknowledged only after the target took it and nobody keeps dirty data.
   */
  readonly multiConn?: boolean;
}

export interface ExportSource {
  /** What this client may see; null when this client may not list. */
  list(client: NbdClientInfo): readonly { name: string; description: string }[] | null;
  /** The export of that name, '' being the default one. Null: there is none for this client. */
  find(name: string, client: NbdClientInfo): NbdExport | null;
  /** Why there is none of that name now, when there will be: told to the client. */
  whyNot?(name: string): string | null;
}

export function isReadOnly(exp: NbdExport): boolean {
  return exp.readOnly === true || exp.device.caps.readOnly;
}

/**
 * Flags to advertise: a function of the device's capabilities alone (proto.md "Transmission flags"). FUA and FLUSH
 * always work: where the device has no FUA the byte device flushes after the write.
 */
export function transmissionFlags(exp: NbdExport): number {
  const { caps } = exp.device;
  let flags: number =
    TransmissionFlag.HasFlags |
    TransmissionFlag.SendFlush |
    TransmissionFlag.SendFua |
    TransmissionFlag.SendCache;
  if (isReadOnly(exp)) flags |= TransmissionFlag.ReadOnly;
  else {
    if (caps.trim) flags |= TransmissionFlag.SendTrim;
    if (caps.writeZeroes) flags |= TransmissionFlag.SendWriteZeroes;
    if (caps.writeZeroes && caps.fastZero) flags |= TransmissionFlag.SendFastZero;
  }
  if (caps.rotational) flags |= TransmissionFlag.Rotational;
  if (exp.multiConn !== false) flags |= TransmissionFlag.CanMultiConn;
  return flags;
}

/** Size constraints to advertise (proto.md "Size constraints"); longer I/O than the device takes is split for it. */
export function blockSizes(exp: NbdExport, requestBytesMax: number): BlockSizes {
  const { caps } = exp.device;
  const minimum = Math.min(caps.blockBytes, MIN_BLOCK_BYTES_MAX);
  const preferred = Math.min(Math.max(minimum, 512, caps.preferredBytes), requestBytesMax);
  return { minimum, preferred, maximum: requestBytesMax };
}
