import { describe, expect, test } from 'vitest';
import { createLogger, type LogOptions } from './log.ts';

function lines(options: Partial<LogOptions>, use: (log: ReturnType<typeof createLogger>) => void) {
  const written: string[] = [];
  const destination = { write: (line: string) => void written.push(line) };
  use(createLogger({ level: 'info', pretty: false, name: 'gateway', destination, ...options }));
  return written;
}

describe('the log', () => {
  test('is one JSON object a line, with level, time, name and bindings', () => {
    const [line] = lines({ bindings: { node: 'n1' } }, (log) => log.warn({ volume: 'v' }, 'slow'));
    expect(JSON.parse(line!)).toMatchObject({
      level: 'warn',
      name: 'gateway',
      node: 'n1',
      volume: 'v',
      msg: 'slow',
    });
    expect(Date.parse(JSON.parse(line!).time)).not.toBeNaN();
    expect(line!.endsWith('\n')).toBe(true);
  });

  test('leaves out what is below its level', () => {
    expect(lines({ level: 'error' }, (log) => log.warn('x'))).toEqual([]);
    expect(lines({ level: 'silent' }, (log) => log.fatal('x'))).toEqual([]);
  });

  test('never shows a secret, however deep it stands', () => {
    const text = lines({}, (log) => {
      log.info({ secret: 'hunter2', auth: { password: 'hunter2', deep: { token: 'hunter2' } } });
      log.info({
        req: { headers: { authorization: 'hunter2' } },
        target: { chap_secret: 'hunter2' },
      });
      log.child({ credentials: 'hunter2' }).info('child');
    }).join('');
    expect(text).not.toContain('hunter2');
    expect(text).toContain('[redacted]');
  });

  test('shows the stack and the cause of an error', () => {
    const error = new Error('outer', { cause: new Error('inner') });
    const [line] = lines({}, (log) => log.error({ err: error }, 'failed'));
    expect(JSON.parse(line!).err.stack).toContain('inner');
  });

  test('is readable text when asked', () => {
    const [line] = lines({ pretty: true }, (log) => log.info({ volume: 'v' }, 'hello'));
    expect(line).toMatch(/INFO.*hello/);
    expect(line).toContain('"volume":"v"');
  });
});
