import { LongAction, longActionOf } from './commands/block-range.ts';
import type { Command } from './commands/command.ts';
import { inquiry } from './commands/inquiry.ts';
import { getLbaStatus, unmap, writeSame } from './commands/provisioning.ts';
import {
  compareAndWrite,
  exclusiveOrWriteRead,
  read,
  synchronizeCache,
  verify,
  write,
  writeAndVerify,
} from './commands/read-write.ts';
import {
  modeSense,
  readCapacity10,
  readCapacity16,
  reportLuns,
  requestSense,
  testUnitReady,
} from './commands/unit-info.ts';
import type { LogicalUnit } from './logical-unit.ts';
import { Sense } from './scsi-codes.ts';
import type { ScsiTask } from './scsi-task.ts';

const SERVICE_ACTION_IN = 0x9e;

/** Every command that the target knows, by opcode. What is not here is ILLEGAL REQUEST 20/00. */
const COMMANDS: ReadonlyMap<number, Command> = new Map([
  [0x00, testUnitReady],
  [0x08, read],
  [0x0a, write],
  [0x1a, modeSense],
  [0x25, readCapacity10],
  [0x28, read],
  [0x2a, write],
  [0x2e, writeAndVerify],
  [0x2f, verify],
  [0x35, synchronizeCache],
  [0x41, writeSame],
  [0x42, unmap],
  [0x53, exclusiveOrWriteRead],
  [0x5a, modeSense],
  [0x88, read],
  [0x89, compareAndWrite],
  [0x8a, write],
  [0x8e, writeAndVerify],
  [0x8f, verify],
  [0x91, synchronizeCache],
  [0x93, writeSame],
  [0xa8, read],
  [0xaa, write],
  [0xae, writeAndVerify],
  [0xaf, verify],
]);

/** SERVICE ACTION IN (16), by service action. */
const SERVICE_ACTIONS: ReadonlyMap<number, Command> = new Map([
  [0x10, readCapacity16],
  [0x12, getLbaStatus],
]);

/** Commands that are served whatever the state of the unit, even without one (SPC-4 4.5.1, SAM-5 5.14). */
const UNCONDITIONAL = { requestSense: 0x03, inquiry: 0x12, reportLuns: 0xa0 } as const;

/** The SCSI side of the target: its units and what their commands do. Knows no iSCSI. */
export class DeviceServer {
  readonly units = new Map<number, LogicalUnit>();

  get luns(): number[] {
    return [...this.units.keys()].sort((a, b) => a - b);
  }

  /** Checks a command that arrived. Afterwards it has failed, or wants `dataOutBytes` and then `execute`. */
  prepare(task: ScsiTask): void {
    if (isUnconditional(task.opcode)) return;
    const { lu } = task;
    if (lu === null) return task.fail(Sense.lunNotSupported);
    const attention = task.nexus.takeAttention(task.lun);
    if (attention !== null) return task.fail(attention);
    const command = commandOf(task);
    if (command !== null) command.prepare?.(lu, task);
    else if (task.opcode === SERVICE_ACTION_IN) task.fail(Sense.invalidField);
    else task.fail(Sense.invalidOpcode);
  }

  /** Does what a prepared command asks for. Reads are left to be copied from the disk (`readBytes`). */
  execute(task: ScsiTask): void {
    switch (task.opcode) {
      case UNCONDITIONAL.inquiry:
        return inquiry(task);
      case UNCONDITIONAL.reportLuns:
        return reportLuns(task, this.luns);
      case UNCONDITIONAL.requestSense:
        return requestSense(task);
      default:
        commandOf(task)!.execute(task.lu!, task);
    }
  }
}

function isUnconditional(opcode: number): boolean {
  return (
    opcode === UNCONDITIONAL.inquiry ||
    opcode === UNCONDITIONAL.reportLuns ||
    opcode === UNCONDITIONAL.requestSense
  );
}

/** Variable length CDBs, by service action. */
const LONG_ACTIONS: ReadonlyMap<number, Command> = new Map([
  [LongAction.read, read],
  [LongAction.write, write],
]);

function commandOf(task: ScsiTask): Command | null {
  const long = longActionOf(task.cdb);
  if (long !== null) return LONG_ACTIONS.get(long) ?? null;
  if (task.opcode !== SERVICE_ACTION_IN) return COMMANDS.get(task.opcode) ?? null;
  return SERVICE_ACTIONS.get(task.cdb[1]! & 0x1f) ?? null;
}
