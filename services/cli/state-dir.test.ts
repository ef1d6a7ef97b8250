import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type TempDir, tempDir } from '#testkit/tmp.ts';
import { lockStateDir, prepareStateDir, readNodeFile, writeNodeFile } from './state-dir.ts';

describe('the state directory', () => {
  let temporary: TempDir;
  beforeAll(() => {
    temporary = tempDir('state');
  });
  afterAll(() => temporary.remove());

  test('is made for its owner alone', () => {
    const dir = temporary.file('deep/state');
    prepareStateDir(dir);
    expect(statSync(dir).mode & 0o777).toBe(0o700);
    prepareStateDir(dir);
  });

  test('is refused when others may write in it', () => {
    const dir = temporary.file('open');
    mkdirSync(dir);
    chmodSync(dir, 0o777);
    expect(() => prepareStateDir(dir)).toThrow(/may be written by others: chmod 700/);
  });

  test('is refused when it is a file', () => {
    const path = temporary.file('file');
    writeFileSync(path, '');
    expect(() => prepareStateDir(path)).toThrow(/EEXIST|no directory/);
  });

  test('is held by one "up" at a time', () => {
    const dir = temporary.file('held');
    prepareStateDir(dir);
    const lock = lockStateDir(dir);
    expect(() => lockStateDir(dir)).toThrow(`another "up" (process ${process.pid}) runs on ${dir}`);
    lock.release();
    lockStateDir(dir).release();
    expect(readdirSync(dir)).toEqual([]);
  });

  test.each([
    ['that has ended', JSON.stringify({ pid: 2 ** 22 + 1, born: '5' })],
    ['whose number another process has now', JSON.stringify({ pid: 1, born: '999999999999' })],
    ['that died while it wrote', '{"pid": 1'],
  ])('is taken over from a process %s', (_name, content) => {
    const dir = temporary.file(`stale-${content.length}`);
    prepareStateDir(dir);
    writeFileSync(`${dir}/up.lock`, content);
    lockStateDir(dir).release();
    expect(existsSync(`${dir}/up.lock`)).toBe(false);
  });

  test('tells other commands who runs, and nothing when that one is dead or writes nonsense', () => {
    const dir = temporary.file('node');
    prepareStateDir(dir);
    expect(readNodeFile(dir)).toBeNull();
    const content = {
      v: 1,
      mode: 'processes',
      cluster: 'orion',
      pid: process.pid,
      url: 'nats://token@127.0.0.1:1',
      processes: [],
    } as const;
    writeNodeFile(dir, { ...content, processes: [] });
    expect(readNodeFile(dir)).toEqual(content);
    expect(statSync(`${dir}/bus.json`).mode & 0o777).toBe(0o600);
    writeNodeFile(dir, { ...content, processes: [], pid: 2 ** 22 + 1 });
    expect(readNodeFile(dir)).toBeNull();
    writeFileSync(`${dir}/bus.json`, '{"v":2}');
    expect(readNodeFile(dir)).toBeNull();
  });
});
