/** One table of what the protocol asks of an initiator, and of how Orion answers; `docs/protocol-support.md` is made from it. */

export type RowStatus =
  /** Shown against a target of somebody else, or where no target is needed. */
  | 'done'
  /** Done, but no other target of the test suite has that side of it: shown with `libs/target` or a scripted target. */
  | 'done, shown on our own target only'
  | 'partly'
  | 'not done';

/** A test, by its file and the name that stands there. */
export type TestReference = readonly [file: string, name: string];

/** Whether another initiator does it, from reading its sources: yes, partly, no, does not apply, not read. */
export type Mark = 'Y' | 'P' | 'N' | '-' | '?';

export interface Row {
  readonly id: string;
  /** Clauses of RFC 7143, of another RFC where it is named, or the SCSI standard. */
  readonly source: string;
  readonly libiscsi: Mark;
  readonly openIscsi: Mark;
  readonly behaviour: string;
  readonly status: RowStatus;
  readonly tests: readonly TestReference[];
  /** Why it is not done, or done only in part. */
  readonly reason: string;
}

export interface Group {
  /** The letter that its rows begin with. */
  readonly letter: string;
  readonly title: string;
  /** Where others differ, in a sentence. */
  readonly others: string;
  readonly rows: readonly Row[];
}

/** Row, clauses, and what libiscsi and open-iscsi do of it. */
type Head = readonly [id: string, source: string, marks: `${Mark}${Mark}`];

function row(
  status: RowStatus,
  head: Head,
  behaviour: string,
  reason: string,
  tests: readonly TestReference[],
): Row {
  const [id, source, marks] = head;
  const [libiscsi, openIscsi] = marks as unknown as readonly [Mark, Mark];
  return { id, source, libiscsi, openIscsi, behaviour, status, tests, reason };
}

export function done(head: Head, behaviour: string, ...tests: readonly TestReference[]): Row {
  return row('done', head, behaviour, '', tests);
}

/** No other target of the suite offers the other half. */
export function doneHere(head: Head, behaviour: string, ...tests: readonly TestReference[]): Row {
  return row('done, shown on our own target only', head, behaviour, '', tests);
}

/** Not all of it is there; without a test, nothing of it. */
export function partly(
  head: Head,
  behaviour: string,
  reason: string,
  ...tests: readonly TestReference[]
): Row {
  return row(tests.length === 0 ? 'not done' : 'partly', head, behaviour, reason, tests);
}
