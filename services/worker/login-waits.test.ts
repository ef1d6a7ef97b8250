import { describe, expect, test } from 'vitest';
import { iscsiErrors } from '#iscsi/errors.ts';
import type { ConnectionStatus } from '#iscsi/session-connection.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { LoginWaits } from './login-waits.ts';

const FIELDS = { volume: 'v', slot: 0 };

function ended(connections: number, reopenMs: number, waitMs?: number) {
  const clock = new VirtualClock();
  const waits = new LoginWaits(clock);
  const fields = waitMs === undefined ? {} : { waitMs };
  const cause = iscsiErrors.make('ISCSI_CONNECTION_LOST', { fields });
  const members = new Array<ConnectionStatus>(connections);
  waits.note('v/0', { cause, reopenMs, connections: () => members });
  return { clock, check: () => waits.check('v/0', FIELDS) };
}

describe('a session that ended at a target that needs time for that', () => {
  test.each([
    [2, 2000, undefined, 2000],
    [2, 2000, 5000, 5000],
    [2, 2000, 1000, 2000],
  ])(
    'with %i connections and %i ms, and %s ms named, is not opened anew for %i ms',
    async (connections, reopenMs, named, waitMs) => {
      const { clock, check } = ended(connections, reopenMs, named);
      expect(check).toThrow(expect.objectContaining({ code: 'WORKER_TARGET_WAITS' }));
      await clock.advance(waitMs - 1);
      expect(check).toThrow(expect.objectContaining({ fields: { ...FIELDS, waitMs: 1 } }));
      await clock.advance(1);
      expect(check).not.toThrow();
    },
  );

  test.each([
    [1, 2000],
    [2, 0],
  ])('with %i connections and %i ms is opened anew at once', (connections, reopenMs) => {
    expect(ended(connections, reopenMs).check).not.toThrow();
  });
});
