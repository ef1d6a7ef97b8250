import { type BlockDevice, type IoContext, WriteFlag } from '#block/device.ts';
import { HttpProblem, problemOfError } from './problem.ts';
import { checkAligned, notSatisfiable } from './range.ts';
import type { BlockOp, BlockOpsResult } from './schemas.ts';

/** Refuses the whole list when any operation of it cannot be right, before the first is carried out. */
export function checkBlockOps(device: BlockDevice, ops: readonly BlockOp[]): void {
  const { caps } = device;
  for (const [index, op] of ops.entries()) {
    try {
      if (op.op === 'flush') continue;
      if (op.offset + op.length > caps.sizeBytes) {
        throw notSatisfiable(caps.sizeBytes, { offset: op.offset, length: op.length });
      }
      checkAligned(op, caps.blockBytes);
      if (caps.readOnly) throw new HttpProblem('read-only');
      if (op.op === 'trim' && !caps.trim) throw new HttpProblem('unsupported');
      if (op.op === 'zero' && !caps.writeZeroes) throw new HttpProblem('unsupported');
    } catch (error) {
      throw problemOfError(error, { op: op.op, index });
    }
  }
}

/** Carries the operations out, one after the other; the first that fails is the last that was tried. */
export async function runBlockOps(
  device: BlockDevice,
  ops: readonly BlockOp[],
  io: () => IoContext,
): Promise<BlockOpsResult> {
  const results: BlockOpsResult['results'] = ops.map(({ op }) => ({ op, state: 'not-started' }));
  for (const [index, op] of ops.entries()) {
    try {
      await runOne(device, op, io());
      results[index]!.state = 'done';
    } catch (error) {
      results[index]!.state = 'failed';
      const place = op.op === 'flush' ? {} : { offset: op.offset, length: op.length };
      throw problemOfError(error, { op: op.op, index, results, ...place });
    }
  }
  return { results };
}

function runOne(device: BlockDevice, op: BlockOp, io: IoContext): Promise<void> {
  switch (op.op) {
    case 'flush':
      return device.flush(io);
    case 'trim':
      return device.trim(op.offset, op.length, WriteFlag.None, io);
    case 'zero':
      return device.writeZeroes(op.offset, op.length, WriteFlag.None, io);
  }
}
