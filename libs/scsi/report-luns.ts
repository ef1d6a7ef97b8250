import { putU32, startCdb, u32 } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

/** REPORT LUNS (SPC-4). */
export function putReportLuns(into: Uint8Array, at: number, allocationBytes: number): void {
  startCdb(into, at, ScsiOp.ReportLuns);
  putU32(into, at + 6, allocationBytes);
}

export interface LunList {
  /** 8 bytes each, as the target wrote them: to be sent back unchanged. */
  readonly luns: readonly Buffer[];
  /** Bytes that the whole list takes, which may be more than arrived. */
  readonly totalBytes: number;
}

export function parseReportLuns(data: Uint8Array): LunList | null {
  if (data.length < 8) return null;
  const totalBytes = 8 + u32(data, 0);
  const end = Math.min(data.length, totalBytes);
  const luns: Buffer[] = [];
  for (let at = 8; at + 8 <= end; at += 8) luns.push(Buffer.from(data.subarray(at, at + 8)));
  return { luns, totalBytes };
}
