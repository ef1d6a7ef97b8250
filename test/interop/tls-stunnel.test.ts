import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NO_DEADLINE } from '#block/device.ts';
import { systemClock } from '#core/clock.ts';
import { isOrionError, type OrionError } from '#core/errors.ts';
import { systemRng } from '#core/rng.ts';
import { makeIsid } from '#iscsi/isid.ts';
import { attachLun } from '#iscsi/lun-attach.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { lunFromNumber } from '#scsi/lun.ts';
import { startOrion } from '#testkit/orion.ts';
import { describeWith } from '#testkit/requires.ts';
import { type Certificate, startTlsLab, type TlsLab } from '#testkit/stunnel.ts';
import { startTgtd, type Tgtd } from '#testkit/tgtd.ts';
import { tempDir } from '#testkit/tmp.ts';
import { parseAddress } from '#wire/network.ts';
import { type TlsOptions, tlsNetwork } from '#wire/tls-network.ts';
import { run } from '../../services/cli/program.ts';

/** iSCSI through TLS: stunnel before tgtd, as where a target cannot do TLS itself. */

const LUN = lunFromNumber(1);
const LOGOUT_MS = 10_000;
const read = (path: string): string => readFileSync(path, 'utf8');

describeWith(['tgtd', 'stunnel4', 'openssl'], 'a portal behind stunnel', () => {
  let tgtd: Tgtd;
  let lab: TlsLab;
  let good: Certificate;
  let portal: string;
  let tls: TlsOptions;

  beforeAll(async () => {
    tgtd = await startTgtd();
    lab = await startTlsLab();
    good = await lab.certificate('storage', 'DNS:storage.lab,IP:127.0.0.1');
    portal = await lab.front(tgtd.portals[0]!, good);
    tls = { ca: read(lab.ca), serverName: '', cert: '', key: '', minVersion: 'TLSv1.2' };
  });
  afterAll(async () => {
    await lab?.stop();
    await tgtd?.stop();
  });

  function open(at: string, over: Partial<TlsOptions> = {}): Promise<IscsiSession> {
    return openSession({
      network: tlsNetwork({ ...tls, ...over }),
      clock: systemClock,
      rng: systemRng,
      portals: [parseAddress(at)!],
      targetName: tgtd.targetName,
      initiatorName: 'iqn.2026-11.lab:initiator',
      isid: makeIsid('tls', tgtd.targetName, 0),
      timeouts: { connectMs: 20_000, loginMs: 20_000 },
    });
  }

  async function discover(...args: string[]) {
    const told = { stdout: '', stderr: '' };
    const code = await run(['discover', ...args], {
      out: (text) => {
        told.stdout += text;
      },
      err: (text) => {
        told.stderr += text;
      },
    });
    return { code, ...told };
  }

  async function refusal(promise: Promise<IscsiSession>): Promise<OrionError> {
    const error: unknown = await promise.then(
      (session) => session.logout({ timeoutMs: LOGOUT_MS }),
      (reason: unknown) => reason,
    );
    expect(isOrionError(error)).toBe(true);
    return error as OrionError;
  }

  test('carries a session and its data both ways', async () => {
    for (const over of [
      {},
      { serverName: 'storage.lab' },
      { minVersion: 'TLSv1.3' },
    ] as Partial<TlsOptions>[]) {
      const session = await open(portal, over);
      const lun = await attachLun(session, LUN);
      const data = Buffer.alloc(1 << 20);
      systemRng.fill(data);
      const back = Buffer.alloc(data.length);
      await lun.write(4096, data, 0, NO_DEADLINE);
      await lun.read(4096, back, NO_DEADLINE);
      expect(back.equals(data)).toBe(true);
      await session.logout({ timeoutMs: LOGOUT_MS });
    }
  });

  test('that goes away ends the session', async () => {
    await using own = await startTlsLab();
    const certificate = await own.certificate('storage', 'IP:127.0.0.1');
    const address = await own.front(tgtd.portals[0]!, certificate);
    const session = await open(address, { ca: read(own.ca) });
    const closed = new Promise((resolve) => session.onClosed(resolve));
    await own.stop();
    expect(await closed).toMatchObject({ outcome: 'unknown' });
  });

  test('is not trusted when nobody that is trusted signed for it', async () => {
    for (const ca of [null, read(good.cert)]) {
      const error = await refusal(open(portal, { ca }));
      expect(error).toMatchObject({ code: 'ISCSI_CONNECT_FAILED', outcome: 'not-executed' });
      expect(error.message).toMatch(/certificate of 127\.0\.0\.1:\d+ is not trusted/);
      expect(error.hint).toMatch(/tls\.ca/);
    }
  });

  test('with a certificate for another name is left, and the error says for which', async () => {
    const error = await refusal(open(portal, { serverName: 'other.lab' }));
    expect(error.message).toMatch(/is for another name .*DNS:storage\.lab/);
    expect(error.hint).toMatch(/tls\.server_name/);
  });

  test('with a certificate that has expired is left', async () => {
    const old = await lab.certificate('old', 'IP:127.0.0.1', -1);
    const error = await refusal(open(await lab.front(tgtd.portals[0]!, old)));
    expect(error.message).toMatch(/has expired/);
    expect(error.hint).toMatch(/clocks/);
  });

  test('that has no TLS at all is told from one that has', async () => {
    const error = await refusal(open(tgtd.portals[0]!));
    expect(error.message).toMatch(/TLS/);
    expect(error.hint).toMatch(/port/);
  });

  test('that is older than we take is left', async () => {
    const old = await lab.front(tgtd.portals[0]!, good, { sslVersion: 'TLSv1.2' });
    const error = await refusal(open(old, { minVersion: 'TLSv1.3' }));
    expect(error.message).toMatch(/no TLS version in common/);
  });

  test('asks for our certificate, and takes the right one', async () => {
    const strict = await lab.front(tgtd.portals[0]!, good, { clientCa: lab.ca });
    const ours = await lab.certificate('initiator', 'DNS:initiator.lab');
    const session = await open(strict, { cert: read(ours.cert), key: read(ours.key) });
    await session.logout({ timeoutMs: LOGOUT_MS });
    const error = await refusal(open(strict));
    expect(error.message).toMatch(/does not take our certificate/);
    expect(error.hint).toMatch(/tls\.cert/);
  });

  test('is asked for its targets over TLS, as it is configured for discovery', async () => {
    const dir = tempDir('tls-discover');
    try {
      const file = dir.file('orion.toml');
      writeFileSync(file, `[discovery]\ntls = { ca = "${lab.ca}" }\n`);
      const found = await discover(portal, '--config', file);
      expect(found).toMatchObject({ stderr: '', code: 0 });
      expect(found.stdout).toContain(tgtd.targetName);
      const wrong = ['--set', 'discovery.tls.server_name=other.lab'];
      const other = await discover(portal, '--config', file, ...wrong);
      expect(other.code).toBe(1);
      expect(other.stderr).toMatch(/is for another name .*DNS:storage\.lab/);
      expect(await discover(portal)).toMatchObject({ code: 1, stdout: '' });
    } finally {
      await dir.remove();
    }
  });

  test('carries a volume of orion-iscsi up, and login-test tells of it', async () => {
    await using orion = await startOrion({
      portals: [portal],
      targetName: tgtd.targetName,
      target: `tls = { ca = "${lab.ca}" }`,
      embedded: true,
    });
    const text = 'over tls';
    const put = await fetch(`${orion.http}/data`, {
      method: 'PUT',
      headers: { 'content-range': `bytes 0-511/*` },
      body: text.padEnd(512),
    });
    expect(put.ok).toBe(true);
    expect(read(tgtd.backingFile(1)).slice(0, text.length)).toBe(text);
    const tested = await orion.cli('login-test', tgtd.targetName);
    expect(tested.stdout).toMatch(/ok +logged in/);
    const wrong = ['--set', 'targets.0.tls.server_name=other.lab'];
    const failed = await orion.cli('login-test', tgtd.targetName, ...wrong);
    expect(failed.code).toBe(1);
    expect(failed.stdout).toMatch(/FAILED .*is for another name/);
  });
});
