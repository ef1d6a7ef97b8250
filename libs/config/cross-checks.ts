import type { Address } from '../wire/network.ts';
import { lunHex, processId, volumePlans, workerLink } from './derive.ts';
import { quote, UNIX_PATH_BYTES_MAX } from './formats.ts';
import { nearest } from './nearest.ts';
import type { OrionConfig, TargetAuthConfig, TargetConfig, TargetTlsConfig } from './schema.ts';

interface Reporter {
  report(path: string, text: string): void;
}

/** What the schema cannot say of one value alone. */
export function checkAcross(config: OrionConfig, to: Reporter): void {
  checkTargets(config, to);
  const areKnown = checkVolumes(config, to);
  if (areKnown) checkCounts(config, to);
  checkListeners(config, to);
  checkWorkers(config, to);
}

function checkTargets(config: OrionConfig, to: Reporter): void {
  reportDuplicates(
    config.targets.map(({ name }) => name),
    (at, first) =>
      to.report(`targets.${at}.name`, `is the name of targets.${first} too; names must differ`),
  );
  for (const [at, target] of config.targets.entries()) {
    reportDuplicates(target.portals, (portal) =>
      to.report(`targets.${at}.portals.${portal}`, 'is listed twice; each portal is one path'),
    );
    checkAuth(target.auth, `targets.${at}.auth`, to);
    checkTls(target.tls, `targets.${at}.tls`, to);
    checkLengths(target, `targets.${at}`, to);
    const { session_max_connections: most } = config.iscsi;
    if (target.connections > most) {
      to.report(
        `targets.${at}.connections`,
        `is ${target.connections}, more than iscsi.session_max_connections = ${most}`,
      );
    }
  }
  checkAuth(config.discovery.auth, 'discovery.auth', to);
  checkTls(config.discovery.tls, 'discovery.tls', to);
  reportDuplicates(
    config.address_map.map(({ from }) => from),
    (at, first) => to.report(`address_map.${at}.from`, `is mapped by address_map.${first} already`),
  );
}

function checkTls(tls: TargetTlsConfig, path: string, to: Reporter): void {
  if (tls.ca === '' && (tls.server_name !== '' || tls.cert !== '' || tls.key !== '')) {
    to.report(`${path}.ca`, 'is missing: say what certificates are checked against, or "system"');
  }
  if ((tls.cert === '') !== (tls.key === '')) {
    to.report(path, 'has one of cert and key; give both or none');
  }
}

function checkLengths(target: TargetConfig, path: string, to: Reporter): void {
  const { first_burst_length: first, max_burst_length: burst } = target;
  if (first > burst) {
    to.report(
      `${path}.first_burst_length`,
      `is ${first}, more than max_burst_length = ${burst} (RFC 7143 §13.14)`,
    );
  }
}

function checkAuth(auth: TargetAuthConfig, path: string, to: Reporter): void {
  checkSecretOf(auth, path, '', to);
  checkSecretOf(auth, path, 'mutual_', to);
  if (auth.mutual_user !== '' && auth.user === '') {
    to.report(`${path}.user`, 'is missing: the target proves itself only to who proves itself');
  }
  const { secret_file: file, secret_env: env } = auth;
  const isShared =
    (file !== '' && file === auth.mutual_secret_file) ||
    (env !== '' && env === auth.mutual_secret_env);
  if (isShared) {
    to.report(path, 'has one secret for both directions; each needs its own (RFC 7143 §9.2.1)');
  }
  if (!auth.algorithms.includes('md5')) {
    to.report(`${path}.algorithms`, 'lacks "md5", which has to be offered (RFC 7143 §12.1.3)');
  }
  reportDuplicates(auth.algorithms, (at) =>
    to.report(`${path}.algorithms.${at}`, 'is listed twice'),
  );
}

/** A name has one secret, and a secret has a name. */
function checkSecretOf(
  auth: TargetAuthConfig,
  path: string,
  prefix: '' | 'mutual_',
  to: Reporter,
): void {
  const given = [auth[`${prefix}secret_file`], auth[`${prefix}secret_env`]].filter(Boolean).length;
  const user = `${prefix}user`;
  const sources = `${prefix}secret_file or ${prefix}secret_env`;
  if (given > 1) to.report(path, `has both ${sources.replace('or', 'and')}; give one`);
  if (auth[`${prefix}user`] !== '' && given === 0) {
    to.report(path, `has ${user} without a secret; give ${sources}`);
  }
  if (auth[`${prefix}user`] === '' && given > 0) {
    to.report(path, `has ${sources} without ${user}`);
  }
}

function checkVolumes(config: OrionConfig, to: Reporter): boolean {
  const targets = config.targets.map(({ name }) => name);
  let areKnown = true;
  reportDuplicates(
    config.volumes.map(({ name }) => name),
    (at, first) =>
      to.report(`volumes.${at}.name`, `is the name of volumes.${first} too; names must differ`),
  );
  // Two volumes over one unit would have two owners and two epochs: neither could fence the other's writes.
  reportDuplicates(
    config.volumes.map(({ target, lun }) => `${target} ${lunHex(lun)}`),
    (at, first) =>
      to.report(
        `volumes.${at}.lun`,
        `is the same logical unit as volumes.${first}; one unit is one volume`,
      ),
  );
  for (const [at, volume] of config.volumes.entries()) {
    if (!targets.includes(volume.target)) {
      areKnown = false;
      to.report(`volumes.${at}.target`, unknownTarget(volume.target, targets));
    }
    if (volume.fence === 'none' && !volume.allow_unsafe) {
      to.report(
        `volumes.${at}.fence`,
        '"none" can lose acknowledged writes; set allow_unsafe = true in this volume to have it anyway',
      );
    }
  }
  return areKnown;
}

function unknownTarget(name: string, targets: readonly string[]): string {
  const meant = nearest(name, targets);
  if (meant !== null)
    return `no [[targets]] has the name ${quote(name)}; did you mean ${quote(meant)}?`;
  const known = targets.length === 0 ? 'there is none' : `known: ${targets.slice(0, 8).join(', ')}`;
  return `no [[targets]] has the name ${quote(name)}; ${known}`;
}

function checkCounts(config: OrionConfig, to: Reporter): void {
  const { iscsi } = config;
  const plans = volumePlans(config);
  const paths = plans.reduce((sum, plan) => sum + plan.portals.length, 0);
  const perSession = new Map(config.targets.map(({ name, connections }) => [name, connections]));
  const connections = plans.reduce(
    (sum, plan) => sum + plan.portals.length * perSession.get(plan.target)!,
    0,
  );
  const limits = [
    ['session_max_count', paths, iscsi.session_max_count, 'sessions'],
    ['connection_max_count', connections, iscsi.connection_max_count, 'connections'],
    ['target_max_count', config.targets.length, iscsi.target_max_count, 'targets'],
  ] as const;
  for (const [key, needed, limit, what] of limits) {
    if (needed > limit) {
      to.report(`iscsi.${key}`, `is ${limit}, but the volumes of this file need ${needed} ${what}`);
    }
  }
}

function checkListeners(config: OrionConfig, to: Reporter): void {
  const { gateway } = config;
  const all = [
    ...gateway.nbd_listen.map((text, at) => [`gateway.nbd_listen.${at}`, text] as const),
    ['gateway.http_listen', gateway.http_listen] as const,
    ['gateway.admin_listen', gateway.admin_listen] as const,
  ].filter(([, text]) => text !== '' && !text.endsWith(':0'));
  reportDuplicates(
    all.map(([, text]) => text),
    (at, first) => to.report(all[at]![0], `${quote(all[at]![1])} is taken by ${all[first]![0]}`),
  );
}

function checkWorkers(config: OrionConfig, to: Reporter): void {
  const { workers } = config;
  const last = workerLink(config, processId(config, 'worker', workers.count - 1));
  const isDefault = workers.link_listen.length === 0;
  for (const [at, address] of last.listen.entries()) {
    const path = isDefault ? 'node.state_dir' : `workers.link_listen.${at}`;
    if (address.kind === 'tcp') {
      if (address.port > 65_535)
        to.report(path, `has no port left for worker ${workers.count - 1}`);
      continue;
    }
    const bytes = Buffer.byteLength(address.path);
    if (bytes > UNIX_PATH_BYTES_MAX) {
      to.report(
        path,
        `the socket ${quote(address.path)} has ${bytes} bytes, the system takes at most ${UNIX_PATH_BYTES_MAX}`,
      );
    }
    if (!isDefault && workers.count > 1 && !workers.link_listen[at]!.includes('{id}')) {
      to.report(path, 'needs {id} in it: every worker has a socket of its own');
    }
  }
  const first = last.listen[0]!;
  if (!isDefault && workers.link_advertise === '' && !canBeReached(first)) {
    to.report('workers.link_listen.0', 'is no address to connect to; say one in link_advertise');
  }
  if (workers.link_advertise !== '' && isDefault) {
    to.report('workers.link_advertise', 'needs link_listen with a TCP address');
  }
}

/** Whether gateways can connect to what is listened on: not to "any address", not to "any port". */
function canBeReached(address: Address): boolean {
  if (address.kind === 'unix') return true;
  return address.port !== 0 && !/^(0\.0\.0\.0|::)$/.test(address.host);
}

/** Calls with the place of each repeated text and of its first appearance. */
function reportDuplicates(
  texts: readonly string[],
  report: (at: number, first: number) => void,
): void {
  const seen = new Map<string, number>();
  for (const [at, text] of texts.entries()) {
    const first = seen.get(text);
    if (first === undefined) seen.set(text, at);
    else report(at, first);
  }
}
