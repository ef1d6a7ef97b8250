import { systemClock } from '#core/clock.ts';
import { printable } from '#core/printable.ts';
import { hexId, systemRng } from '#core/rng.ts';
import { type DiscoveredTarget, discover, groupsOf } from '#iscsi/discovery.ts';
import { makeIsid } from '#iscsi/isid.ts';
import { ISCSI_PORT } from '#iscsi/target-address.ts';
import { type Address, formatAddress, parseAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { TargetLogins } from '../worker/target-logins.ts';
import { cliErrors } from './errors.ts';
import { Exit } from './exit-code.ts';
import { type CommonOptions, loadCliConfig } from './load-config.ts';
import { type Output, table } from './output.ts';

export interface DiscoverOptions extends CommonOptions {
  readonly target?: string;
  readonly map?: readonly string[];
}

/** `discover`: asks a portal which targets it has for us. */
export async function discoverCommand(
  portal: string,
  options: DiscoverOptions,
  output: Output,
): Promise<number> {
  const { config } = loadCliConfig(options);
  const address = portalOf(portal);
  const mapped = mapOf(options.map ?? []);
  const logins = new TargetLogins({ config, network: nodeNetwork, env: process.env });
  const login = await logins.forDiscovery();
  const { initiatorName } = login;
  const targets = await discover({
    ...login,
    clock: systemClock,
    rng: systemRng,
    portals: [address],
    // Of its own: two that discover at the same time do not end each other's sessions.
    isid: makeIsid(hexId(systemRng, 8), '', systemRng.u32() & 0xffff),
    mapAddress: (told) => mapped.get(formatAddress(told)) ?? logins.mapAddress(told),
    ...(options.target === undefined ? {} : { target: options.target }),
  });
  output.line(
    output.json
      ? JSON.stringify(report(formatAddress(address), initiatorName, targets), null, 2)
      : textOf(initiatorName, targets),
  );
  return Exit.Ok;
}

/** A portal from the command line. */
export function portalOf(text: string): Address {
  const address = parseAddress(text, ISCSI_PORT);
  if (address?.kind === 'tcp' && address.port !== 0) return address;
  throw cliErrors.make('CLI_USAGE', {
    message: `${JSON.stringify(text)} is no portal`,
    hint: 'Portals look like 192.0.2.1, 192.0.2.1:3260, storage.example.com:3260 or [2001:db8::1]:3260.',
  });
}

function mapOf(entries: readonly string[]): ReadonlyMap<string, Address> {
  return new Map(
    entries.map((entry) => {
      const at = entry.indexOf('=');
      if (at < 0) {
        throw cliErrors.make('CLI_USAGE', {
          message: `${JSON.stringify(entry)} is not of the form FROM=TO`,
          hint: 'As in --map 10.0.2.15:3260=127.0.0.1:3270.',
        });
      }
      return [formatAddress(portalOf(entry.slice(0, at))), portalOf(entry.slice(at + 1))] as const;
    }),
  );
}

function report(portal: string, initiatorName: string, targets: readonly DiscoveredTarget[]) {
  return {
    portal,
    initiatorName,
    targets: targets.map(({ name, portals }) => ({
      name,
      groups: groupsOf(portals).map((group) => ({
        tpgt: group.tpgt,
        portals: group.portals.map(formatAddress),
      })),
    })),
  };
}

function textOf(initiatorName: string, targets: readonly DiscoveredTarget[]): string {
  if (targets.length === 0) {
    return `no targets for ${initiatorName}: allow this name on the target, or set initiator_name`;
  }
  const rows = targets.flatMap(({ name, portals }) =>
    groupsOf(portals).flatMap((group, at) =>
      group.portals.map((portal, index) => [
        at === 0 && index === 0 ? name : '',
        index === 0 ? String(group.tpgt ?? '?') : '',
        formatAddress(portal),
      ]),
    ),
  );
  const [first] = targets;
  const portals = first!.portals.map(({ address }) => formatAddress(address)).join(' ');
  const next = `Try a login: orion-iscsi login-test ${first!.name} ${portals}`;
  return `${table(['TARGET', 'GROUP', 'PORTAL'], rows)}\n\n${printable(next)}`;
}
