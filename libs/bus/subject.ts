import { assert } from '../core/assert.ts';

const TOKEN = /^[A-Za-z0-9_-]+$/;

/** Subjects and keys come from our own code (contracts/subjects.ts): a bad one is a bug. */
export function assertSubject(subject: string): void {
  assert(isSubject(subject), `not a subject: "${subject}"`);
}

export function assertPattern(pattern: string): void {
  const tokens = pattern.split('.');
  const last = tokens.length - 1;
  const valid = tokens.every(
    (token, i) => TOKEN.test(token) || token === '*' || (token === '>' && i === last),
  );
  assert(valid, `not a subject pattern: "${pattern}"`);
}

export function isSubject(subject: string): boolean {
  return subject.split('.').every((token) => TOKEN.test(token));
}

/** `*` stands for one token, a last `>` for one or more. */
export function subjectMatches(pattern: string, subject: string): boolean {
  if (pattern === subject) return true;
  const want = pattern.split('.');
  const have = subject.split('.');
  for (let i = 0; i < want.length; i++) {
    if (want[i] === '>') return have.length > i;
    if (i >= have.length || (want[i] !== '*' && want[i] !== have[i])) return false;
  }
  return want.length === have.length;
}
