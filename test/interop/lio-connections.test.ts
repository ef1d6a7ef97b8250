import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Lio, startLio, whyNoLio } from '#testkit/lio.ts';
import { FIRST_GUEST_PORT, GUEST_ADDRESS } from '#testkit/lio-config.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { describeUnless } from '#testkit/requires.ts';
import { waitFor } from '#testkit/wait.ts';

const MIB = 1024 * 1024;
const FOLLOW_MS = 60_000;
const CONNECTIONS = 4;

interface ConnectionInfo {
  readonly cid: number;
  readonly state: string;
}

describeUnless(await whyNoLio(), 'a volume of LIO over sessions of four connections', () => {
  let lio: Lio;
  let orion: Orion;

  beforeAll(async () => {
    lio = await startLio({
      luns: [{ sizeBytes: 32 * MIB }],
      groups: [
        {
          parameters: { MaxConnections: CONNECTIONS, ErrorRecoveryLevel: 2 },
          attributes: { default_erl: 2 },
        },
      ],
    });
    orion = await startOrion({
      portals: lio.portals.slice(0, 1),
      targetName: lio.targetName,
      lun: 0,
      target: `connections = ${CONNECTIONS}\nerror_recovery_level = 2`,
      volume: 'no_path_retry_ms = 60000',
    });
  });
  afterAll(async () => {
    await orion?.stop();
    await lio?.stop();
  });

  async function connections(): Promise<ConnectionInfo[]> {
    const { stdout } = await orion.cli('connection', 'info', '--json');
    return JSON.parse(stdout) as ConnectionInfo[];
  }

  const allUp = (): Promise<unknown> =>
    waitFor(
      'all connections are up',
      async () => {
        const states = (await connections()).map(({ cid, state }) => `${cid} ${state}`).sort();
        return states.length === CONNECTIONS && states.every((one) => one.endsWith(' LOGGED_IN'));
      },
      FOLLOW_MS,
    );

  async function writeAndRead(fill: number): Promise<void> {
    const jobs = Array.from({ length: 16 }, async (_, index) => {
      const body = Buffer.alloc(MIB, fill + index);
      const [from, to] = [index * MIB, (index + 1) * MIB - 1];
      const headers = { 'content-range': `bytes ${from}-${to}/*` };
      const put = await fetch(`${orion.http}/data`, { method: 'PUT', headers, body });
      expect(put.ok).toBe(true);
      const got = await fetch(`${orion.http}/data`, { headers: { range: `bytes=${from}-${to}` } });
      expect(Buffer.from(await got.arrayBuffer()).equals(body)).toBe(true);
    });
    await Promise.all(jobs);
  }

  test('does I/O over all of them, shows them, and has them all logged in anew on request', async () => {
    await allUp();
    await writeAndRead(1);
    const reset = await orion.cli('connection', 'reset', '--all');
    expect(reset.stdout).toContain('logged in anew');
    await allUp();
    await writeAndRead(100);
  });

  test('is told of by login-test, in one login', async () => {
    const { code, stdout } = await orion.cli('login-test', lio.targetName);
    expect(code).toBe(0);
    expect(stdout).toMatch(/MaxConnections +4 +4 +4 /);
    expect(stdout).toMatch(/ErrorRecoveryLevel +2 +2 +2 /);
    expect(stdout.match(/is connected/g)).toHaveLength(1);
  });

  test('is discovered behind its address translation, and reached with the address map', async () => {
    const told = `${GUEST_ADDRESS}:${FIRST_GUEST_PORT}`;
    const [portal] = lio.portals;
    const plain = await orion.cli('discover', portal!);
    expect(plain.stdout).toMatch(new RegExp(`${lio.targetName} +1 +${told}`));
    const mapped = await orion.cli('discover', portal!, '--map', `${told}=${portal}`, '--json');
    expect(JSON.parse(mapped.stdout)).toMatchObject({
      targets: [{ name: lio.targetName, groups: [{ tpgt: 1, portals: [portal] }] }],
    });
  });
});
