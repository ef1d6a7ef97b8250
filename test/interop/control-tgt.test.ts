import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { sleep, systemClock } from '#core/clock.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { nameOf, TaskFunction, TmfResponse } from '#iscsi/pdu/opcodes.ts';
import type { OpenSessionOptions } from '#iscsi/session-options.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { describeWith } from '#testkit/requires.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { sessionOptions, withSession } from './real-session.ts';

const MIB = 1024 * 1024;
const LUN = lunFromNumber(1);

describeWith(['tgtd'], 'the control side of the initiator against tgtd', () => {
  let tgtd: Tgtd;

  beforeAll(async () => {
    tgtd = await startTgtd({ luns: [{ sizeBytes: 16 * MIB }] });
  });

  afterAll(async () => {
    await tgtd?.stop();
  });

  const options = (slot: number, over: Partial<OpenSessionOptions> = {}) =>
    sessionOptions(tgtd, slot, over);

  test('tgtd answers each task management function, by name, and the session goes on', async () => {
    const said = await withSession(options(1), async (session) => {
      const answers: string[] = [];
      for (const fn of [1, 2, 3, 4, 5, 6, 8] as const) {
        const { response } = await session.taskManagement(fn, LUN, {
          timeoutMs: 5000,
          referencedTag: 0x1234,
          refCmdSn: (session.cmdSn - 1) >>> 0,
        });
        answers.push(`${nameOf(TaskFunction, fn)}: ${nameOf(TmfResponse, response)}`);
      }
      expect(session.state).toBe('open');
      return answers;
    });
    expect(said).toEqual([
      'AbortTask: TaskDoesNotExist',
      'AbortTaskSet: FunctionComplete',
      'ClearAca: FunctionNotSupported',
      'ClearTaskSet: FunctionNotSupported',
      'LogicalUnitReset: FunctionComplete',
      'TargetWarmReset: FunctionNotSupported',
      'TaskReassign: FunctionNotSupported',
    ]);
  });

  test('pings with data are echoed as they were sent', async () => {
    const timeouts = { nopIntervalMs: 50, nopTimeoutMs: 5000 };
    await withSession(options(2, { timeouts }), async (session) => {
      await sleep(systemClock, 1000);
      expect(session.state).toBe('open');
    });
  });

  test('a reset that is answered while a write waits for its data does not make that write terminated: tgtd executes it later', async () => {
    const params = { InitialR2T: true, ImmediateData: false };
    await withSession(options(3, { params }), async (session) => {
      const lun = await attachLun(session, LUN);
      const data = Buffer.alloc(65_536, 0xed);
      const written = lun.write(0, data, 0, NO_DEADLINE);
      // In one turn: the reset is on its way before the R2T of the write is here.
      await lun.lunReset(5000);
      lun.abandon();
      await written;
      expect(readFileSync(tgtd.backingFile(1)).subarray(0, data.length).equals(data)).toBe(true);
      expect(session.stats.inflight).toBe(0);
    });
  });
});
