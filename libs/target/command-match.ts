import type { Task } from './task.ts';

/** Which commands a fault strikes; what is left out matches everything. */
export interface CommandMatch {
  readonly lun?: number;
  readonly opcode?: number | readonly number[];
  /** Commands that touch a block of [lbaFrom, lbaTo); commands without blocks do not match then. */
  readonly lbaFrom?: number;
  readonly lbaTo?: number;
  readonly initiatorName?: string;
  /** Twelve hexadecimal digits. */
  readonly isid?: string;
  readonly tpgt?: number;
  /** Strikes so often, then it is spent. Default: always. */
  readonly count?: number;
}

export function matches(match: CommandMatch, task: Task): boolean {
  if (match.lun !== undefined && match.lun !== task.lun) return false;
  const { nexus } = task;
  if (match.initiatorName !== undefined && match.initiatorName !== nexus.initiatorName)
    return false;
  if (match.isid !== undefined && match.isid !== nexus.isid) return false;
  if (match.tpgt !== undefined && match.tpgt !== nexus.tpgt) return false;
  const { opcode } = match;
  if (typeof opcode === 'number') {
    if (opcode !== task.opcode) return false;
  } else if (opcode !== undefined && !opcode.includes(task.opcode)) return false;
  return matchesRange(match, task);
}

function matchesRange(match: CommandMatch, task: Task): boolean {
  if (match.lbaFrom === undefined && match.lbaTo === undefined) return true;
  const range = task.range;
  if (range === null) return false;
  const from = match.lbaFrom ?? 0;
  const to = match.lbaTo ?? Number.POSITIVE_INFINITY;
  return range.lba < to && range.lba + range.blocks > from;
}
