import { systemClock } from '#core/clock.ts';
import { hexId, systemRng } from '#core/rng.ts';
import { makeIsid } from '#iscsi/isid.ts';
import type { LoginEvent } from '#iscsi/login-trace.ts';
import { nameInvalidReason } from '#iscsi/names.ts';
import { openSession } from '#iscsi/open-session.ts';
import type { IscsiSession } from '#iscsi/session.ts';
import { sharedPool } from '#wire/buffer-pool.ts';
import { type Address, formatAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { type TargetLogin, TargetLogins } from '../worker/target-logins.ts';
import { portalOf } from './discover.ts';
import { cliErrors } from './errors.ts';
import { Exit } from './exit-code.ts';
import { type CommonOptions, loadCliConfig } from './load-config.ts';
import { type PortalStory, type SessionFacts, storyError, storyText } from './login-story.ts';
import { reportLuns } from './lun-report.ts';
import type { Output } from './output.ts';

const LOGOUT_MS = 2000;
const LOGIN_MS_MAX = 30_000;

/** `login-test`: logs in at each portal, tells how that went, looks at the logical units, and logs out. */
export async function loginTest(
  target: string,
  portals: readonly string[],
  options: CommonOptions,
  output: Output,
): Promise<number> {
  const { config } = loadCliConfig(options);
  const reason = nameInvalidReason(target);
  if (reason !== null) {
    throw cliErrors.make('CLI_USAGE', {
      message: `${JSON.stringify(target)} is no target: ${reason}`,
      hint: 'orion-iscsi discover PORTAL lists the names.',
    });
  }
  const known = config.targets.find(({ name }) => name === target);
  const addresses = portals.length > 0 ? portals : (known?.portals ?? []);
  if (addresses.length === 0) {
    throw cliErrors.make('CLI_USAGE', {
      message: `the configuration has no target ${target}, so its portals have to be given`,
      hint: `As in: orion-iscsi login-test ${target} 192.0.2.1:3260`,
    });
  }
  const logins = new TargetLogins({ config, network: nodeNetwork, env: process.env });
  const login = await logins.to(target);
  const stories: PortalStory[] = [];
  for (const text of addresses) stories.push(await tell(target, portalOf(text), login));
  tellAll(target, login, stories, output);
  const failed = stories.filter(({ ok }) => !ok);
  if (failed.length === 0) return Exit.Ok;
  const { message, hint } = failed[0]!.error!;
  output.error(
    `${failed.length} of ${stories.length} portals failed, the first with: ${message}. ${hint}`,
  );
  return Exit.Failed;
}

function tellAll(
  target: string,
  { initiatorName }: TargetLogin,
  stories: readonly PortalStory[],
  output: Output,
): void {
  if (output.json) {
    const ok = stories.every((story) => story.ok);
    output.line(JSON.stringify({ target, initiatorName, ok, portals: stories }, null, 2));
    return;
  }
  output.line(`target ${target}\nas     ${initiatorName}`);
  for (const story of stories) output.line(`\n${storyText(story)}`);
}

async function tell(target: string, portal: Address, login: TargetLogin): Promise<PortalStory> {
  const steps: LoginEvent[] = [];
  const named = { portal: formatAddress(portal), steps };
  const { loginMs, connections, ...options } = login;
  try {
    const session = await openSession({
      ...options,
      // One login is told of; how many more the target would take is a key of it.
      params: { ...options.params, MaxConnections: connections ?? 1 },
      clock: systemClock,
      rng: systemRng,
      pool: sharedPool,
      portals: [portal],
      targetName: target,
      // Of its own: a session that is in use is not ended by a test.
      isid: makeIsid(hexId(systemRng, 8), target, systemRng.u32() & 0xffff),
      timeouts: { loginMs: Math.min(loginMs, LOGIN_MS_MAX) },
      trace: (event) => steps.push(event),
    });
    try {
      const luns = await reportLuns(session);
      return { ...named, ok: true, session: factsOf(session, steps), luns, error: null };
    } finally {
      await session.logout({ timeoutMs: LOGOUT_MS }).catch(() => {}); // the login is what was tested
    }
  } catch (error) {
    return { ...named, ok: false, session: null, luns: [], error: storyError(error, steps) };
  }
}

function factsOf(session: IscsiSession, steps: readonly LoginEvent[]): SessionFacts {
  const { login } = session;
  return {
    portal: session.portal,
    tsih: session.tsih,
    tpgt: session.remoteTpgt,
    alias: login.targetAlias,
    headerDigest: login.params.HeaderDigest,
    dataDigest: login.params.DataDigest,
    authentication: steps.findLast((step) => step.kind === 'authenticated')?.how ?? 'none',
    sendsBytes: login.targetSegmentBytes,
    takesBytes: login.ourSegmentBytes,
  };
}
