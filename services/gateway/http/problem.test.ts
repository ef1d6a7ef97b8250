import { describe, expect, test } from 'vitest';
import { blockErrors } from '#block/errors.ts';
import { type BlockErrno, OrionError, type Outcome } from '#core/errors.ts';
import { HttpProblem, PROBLEMS, problemOfError } from './problem.ts';

const error = (code: string, errno: BlockErrno, outcome: Outcome) =>
  new OrionError({
    code,
    message: 'it failed',
    errno,
    outcome,
    fields: { portal: 'p', status: 'x' },
  });

describe('what a client is told of an error of the device', () => {
  test.each([
    ['SCSI_RESERVATION_CONFLICT', 'EIO', 'final', 409, 'reservation-conflict', false],
    ['SCSI_MEDIUM_ERROR', 'EIO', 'final', 500, 'medium-error', false],
    ['SCSI_WRITE_PROTECTED', 'EPERM', 'final', 403, 'read-only', false],
    ['BLOCK_NO_SPACE', 'ENOSPC', 'final', 507, 'no-space', false],
    ['BLOCK_OUT_OF_RANGE', 'EINVAL', 'final', 416, 'range-not-satisfiable', false],
    ['BLOCK_UNALIGNED', 'EINVAL', 'final', 400, 'alignment', false],
    ['BLOCK_UNSUPPORTED', 'ENOTSUP', 'final', 501, 'unsupported', false],
    ['ISCSI_PROTOCOL_ERROR', 'EIO', 'terminated', 502, 'target-protocol', true],
    ['MULTIPATH_DEADLINE', 'EIO', 'not-executed', 504, 'timeout', true],
    ['MULTIPATH_NO_PATH', 'EIO', 'final', 503, 'unavailable', true],
    ['MULTIPATH_NOT_FENCED', 'EIO', 'final', 503, 'outcome-unknown', false],
    ['SCSI_OUT_OF_RANGE', 'EINVAL', 'final', 416, 'range-not-satisfiable', false],
    ['PATH_LOST', 'EIO', 'unknown', 503, 'outcome-unknown', false],
    ['ISCSI_TIMEOUT', 'EIO', 'unknown', 503, 'outcome-unknown', false],
    ['SCSI_HARDWARE', 'EIO', 'final', 500, 'io-error', false],
  ] as const)('%s (%s, %s) is %i %s', (code, errno, outcome, status, name, retryable) => {
    const problem = problemOfError(error(code, errno, outcome), { volume: 'v', offset: 5 });
    expect(problem.status).toBe(status);
    expect(problem.document()).toMatchObject({
      type: `urn:orion-iscsi:problem:${name}`,
      status,
      detail: 'it failed',
      code,
      outcome,
      retryable,
      portal: 'p',
      volume: 'v',
      offset: 5,
    });
    expect(problem.headers['retry-after']).toBe(status === 503 ? '1' : undefined);
  });

  test('an unexpected error keeps its text to itself', () => {
    const document = problemOfError(new Error('password=hunter2')).document();
    expect(JSON.stringify(document)).not.toContain('hunter2');
    expect(document.status).toBe(500);
  });

  test('the hint of the error is the one that is shown', () => {
    const problem = problemOfError(blockErrors.make('BLOCK_CLOSED', { hint: 'Open it.' }));
    expect(problem.document().hint).toBe('Open it.');
  });

  test('fields are added and never lost on the way up', () => {
    const problem = problemOfError(new HttpProblem('alignment', { fields: { blockBytes: 512 } }), {
      volume: 'v',
    }).with({ offset: 1 });
    expect(problem.document()).toMatchObject({ blockBytes: 512, volume: 'v', offset: 1 });
  });
});

test('every problem has a status, a title and a hint that says what to do', () => {
  for (const [name, spec] of Object.entries(PROBLEMS)) {
    expect(name).toMatch(/^[a-z]+(-[a-z]+)*$/);
    expect(spec.status).toBeGreaterThanOrEqual(400);
    expect(spec.status).toBeLessThan(600);
    expect(spec.hint.endsWith('.')).toBe(true);
  }
});
