import { volumePlans } from '#config/derive.ts';
import type { OrionConfig, TargetConfig } from '#config/schema.ts';
import type { OpenSessionOptions } from '#iscsi/session-options.ts';
import { ISCSI_PORT } from '#iscsi/target-address.ts';
import { type Address, formatAddress, type Network, parseAddress } from '#wire/network.ts';
import { type Authentication, authenticationOf } from './authentication.ts';
import { loginParams } from './login-params.ts';
import { networkFor } from './tls.ts';

/** Portals of one target that have moved for good; targets have few. */
const MOVES_MAX = 64;

export interface TargetLoginsOptions {
  readonly config: OrionConfig;
  readonly network: Network;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A target says that a portal of it has moved for good. */
  readonly onMoved?: (target: string, from: string, to: string) => void;
}

/** What of a login follows from the configuration of its target. */
export type TargetLogin = Pick<
  OpenSessionOptions,
  | 'network'
  | 'authentication'
  | 'initiatorName'
  | 'connections'
  | 'errorRecoveryLevel'
  | 'params'
  | 'mapAddress'
  | 'onMoved'
> & { readonly loginMs: number };

/** How to log in to each target, as the configuration has it. */
export class TargetLogins {
  readonly #options: TargetLoginsOptions;
  readonly #authentication: Authentication;
  readonly #initiators: ReadonlyMap<string, string>;
  readonly #map: ReadonlyMap<string, Address>;
  /** By target and portal: where it said that it is now (status 0102). Until the configuration says so too. */
  readonly #moved = new Map<string, Address>();

  constructor(options: TargetLoginsOptions) {
    const { config, env } = options;
    this.#options = options;
    this.#authentication = authenticationOf(config, env);
    this.#initiators = new Map(
      volumePlans(config).map((plan) => [plan.target, plan.initiatorName]),
    );
    this.#map = new Map(config.address_map.map(({ from, to }) => [from, portalOf(to)]));
  }

  /** Quirk profile of a target, by name. */
  profile(target: string): string {
    return this.#options.config.targets.find(({ name }) => name === target)?.profile ?? 'auto';
  }

  /** Rejects when a secret or a certificate cannot be read. */
  async to(target: string): Promise<TargetLogin> {
    const { config, network, onMoved } = this.#options;
    const known: TargetConfig | undefined = config.targets.find(({ name }) => name === target);
    return {
      network: await networkFor(known?.tls, network),
      authentication: await this.#authentication.to(target),
      initiatorName:
        this.#initiators.get(target) ?? known?.initiator_name ?? config.discovery.initiator_name,
      connections: known?.connections ?? 1,
      errorRecoveryLevel: (known?.error_recovery_level ?? 0) as 0 | 1 | 2, // the schema has seen to it
      params: loginParams(known),
      loginMs: known?.login_timeout_ms ?? Number.POSITIVE_INFINITY,
      mapAddress: this.mapAddress,
      onMoved: (from, to) => {
        if (this.#moved.size < MOVES_MAX) this.#moved.set(moveKey(target, from), to);
        onMoved?.(target, formatAddress(from), formatAddress(to));
      },
    };
  }

  /** A portal, or where it has moved to since. */
  portal(target: string, text: string): Address {
    const address = portalOf(text);
    return this.#moved.get(moveKey(target, address)) ?? address;
  }

  /** Where to connect instead of an address that a target has told. */
  readonly mapAddress = (address: Address): Address =>
    this.#map.get(formatAddress(address)) ?? address;

  /** As the configuration has it for discovery alone: which target is behind a portal is not known yet. */
  async forDiscovery(): Promise<
    Pick<TargetLogin, 'network' | 'authentication' | 'initiatorName' | 'mapAddress'>
  > {
    const { config, network } = this.#options;
    return {
      network: await networkFor(config.discovery.tls, network),
      authentication: await this.#authentication.forDiscovery(),
      initiatorName: config.discovery.initiator_name,
      mapAddress: this.mapAddress,
    };
  }
}

function portalOf(text: string): Address {
  return parseAddress(text, ISCSI_PORT)!; // checked by the schema, or by the contract
}

function moveKey(target: string, portal: Address): string {
  return `${target}\n${formatAddress(portal)}`;
}
