import { existsSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runFio, startFio } from './fio.ts';
import { freePorts } from './ports.ts';
import { cpuMicros, isAlive, processTree, rssBytes } from './proc-stat.ts';
import { check, runProcess, startProcess } from './process.ts';
import { startQemuNbd } from './qemu-nbd.ts';
import { describeWith } from './requires.ts';
import { startTgtd } from './tgtd.ts';
import { tempDir } from './tmp.ts';
import { waitFor } from './wait.ts';

const MIB = 1024 * 1024;

test('a process that ends too early is explained with its output', async () => {
  const child = await startProcess({
    command: 'sh',
    args: ['-c', 'echo out; echo why >&2; exit 3'],
  });
  await expect(child.untilOutput(/never/)).rejects.toThrow(/ended.*exit code 3[\s\S]*out\n {2}why/);
});

test('stop ends the whole process group', async () => {
  const child = await startProcess({ command: 'sh', args: ['-c', 'sleep 100 & sleep 100; true'] });
  const tree = await waitFor('both children', () => {
    const found = processTree(child.pid);
    return found.length === 3 && found;
  });
  await child.stop();
  await waitFor('all gone', () => tree.every((node) => !isAlive(node.pid)));
});

test('a child dies with a parent that was killed', async () => {
  const source = `import { startProcess } from '${import.meta.dirname}/process.ts';
    const child = await startProcess({ command: 'sleep', args: ['100'] });
    console.log('child ' + child.pid);`;
  const parent = await startProcess({
    command: process.execPath,
    args: ['--input-type=module', '-e', `${source} setInterval(() => {}, 1000);`],
  });
  const match = await parent.untilOutput(/child (\d+)/);
  await parent.stop('SIGKILL');
  await waitFor('the grandchild is gone', () => !isAlive(Number(match[1])));
});

test('runProcess feeds stdin and check explains a failure', async () => {
  expect((await runProcess({ command: 'cat', input: 'abc' })).stdout).toBe('abc');
  await expect(check('sh', ['-c', 'echo bad >&2; exit 4'])).rejects.toThrow(
    /ended with 4:\n {2}bad/,
  );
});

test('CPU time and memory of a process can be read', () => {
  expect(cpuMicros(process.pid)).toBeGreaterThan(0);
  expect(rssBytes(process.pid)).toBeGreaterThan(MIB);
  expect(cpuMicros(2 ** 30)).toBe(0);
});

test('free ports differ and a temporary directory goes away', async () => {
  expect(new Set(await freePorts(20)).size).toBe(20);
  const dir = tempDir();
  expect(existsSync(dir.path)).toBe(true);
  await dir.remove();
  expect(existsSync(dir.path)).toBe(false);
});

describeWith(['tgtd', 'qemu-nbd', 'qemu-iscsi', 'fio'], 'the real peers', () => {
  test('two targets at once, one of them restarted on the same ports and files', async () => {
    await using first = await startTgtd({ portals: 2, luns: [{ sizeBytes: 16 * MIB }] });
    await using second = await startTgtd({
      luns: [{ sizeBytes: 8 * MIB, blockBytes: 4096 }],
      params: { MaxRecvDataSegmentLength: 262144 },
      chap: { user: 'alice', password: 'secret-secret' },
    });
    expect(first.portals).toHaveLength(2);
    expect(statSync(first.backingFile(1)).size).toBe(16 * MIB);
    expect(await second.tgtadm('--op', 'show', '--mode', 'account')).toContain('alice');
    const { portals, pid } = first;
    await first.restart();
    expect(first.pid).not.toBe(pid);
    expect(first.portals).toEqual(portals);
    expect(await first.tgtadm('--op', 'show', '--mode', 'target')).toContain(first.targetName);
  });

  test('fio verifies and measures through qemu-nbd, and reports a failure', async () => {
    await using target = await startTgtd({ luns: [{ sizeBytes: 16 * MIB }] });
    await using nbd = await startQemuNbd({ source: target.uri() });
    const result = await runFio({
      uri: nbd.uri,
      rw: 'randwrite',
      depth: 8,
      sizeBytes: 4 * MIB,
      verify: true,
    });
    expect(result.write.ios).toBe(1024);
    expect(result.read.ios).toBe(1024);
    expect(result.write.p99Micros).toBeGreaterThan(0);
    const broken = await startFio({ uri: `${nbd.uri}-missing`, rw: 'read', sizeBytes: MIB });
    await expect(broken.result).rejects.toThrow(/fio/);
  });
});
