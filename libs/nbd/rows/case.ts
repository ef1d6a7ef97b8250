import type { RawPeer } from './raw-peer.ts';

/** Who else passes: the same test runs against them as a control. What is not named deviates, as nbd.md says. */
export type Control = 'qemu-nbd' | 'nbdkit';

export interface RowContext {
  /** Where another server may differ in a detail of a row that it else passes. */
  readonly server: 'own' | Control;
  /** A new connection, nothing read or sent. */
  connect(): Promise<RawPeer>;
}

/** One row of the conformance list, as a test of any server with an export "ram" of `EXPORT_BYTES`. */
export interface RowCase {
  readonly row: number;
  readonly title: string;
  readonly controls: readonly Control[];
  run(context: RowContext): Promise<void>;
}

export const EXPORT_NAME = 'ram';
export const EXPORT_DESCRIPTION = 'a RAM disk';
export const EXPORT_BYTES = 8 * 1024 * 1024;

export const BOTH: readonly Control[] = ['qemu-nbd', 'nbdkit'];
export const NONE: readonly Control[] = [];

export function title(row: RowCase): string {
  return `row ${row.row}: ${row.title}`;
}
