import { describe, expect, test } from 'vitest';
import { outputTo, table } from './output.ts';

const NASTY = 'a\x1b[2J\x1b]0;owned\x07\x7f\x9b31mb';

function written(write: (output: ReturnType<typeof outputTo>) => void): string {
  let text = '';
  const add = (more: string): void => {
    text += more;
  };
  write(outputTo({ out: add, err: add }, false));
  return text;
}

describe('a terminal is not moved by what a target says', () => {
  test('in an error', () => {
    const text = written((output) => output.error(`the target says ${NASTY}`));
    expect(text).toBe('orion-iscsi: the target says a?[2J?]0;owned???31mb\n');
  });

  test('in a table', () => {
    expect(table(['TARGET'], [[NASTY]])).not.toMatch(/\p{Cc}(?<!\n)/u);
  });
});

test('an error of several lines stays one of several lines', () => {
  expect(written((output) => output.error('one\ntwo'))).toBe('orion-iscsi: one\ntwo\n');
});
