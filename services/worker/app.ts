import type { KeyValue, Subscription } from '#bus/bus.ts';
import { Membership } from '#cluster/membership.ts';
import { workerLink } from '#config/derive.ts';
import { checked } from '#contracts/check.ts';
import {
  AfterResetRequest,
  ClaimRequest,
  type Heartbeat,
  type ProcessStatus,
  ReleaseRequest,
  ResetRequest,
  SealRequest,
} from '#contracts/messages.ts';
import type { RunningService, ServiceDeps } from '#contracts/service.ts';
import { subjects } from '#contracts/subjects.ts';
import { hexId } from '#core/rng.ts';
import { type LinkServer, listenLink } from '#link/server.ts';
import { sharedPool } from '#wire/buffer-pool.ts';
import { logSession, told } from './session-log.ts';
import { SlotTable } from './slot-table.ts';
import { TargetLogins } from './target-logins.ts';

/** A worker: holds iSCSI sessions on claims of volume owners, and serves them over its links. */
export async function startWorker(deps: ServiceDeps): Promise<RunningService> {
  const { config, id, bus, clock, network, rng, log } = deps;
  const cluster = config.node.cluster;
  const subject = subjects(cluster);
  const incarnation = hexId(rng, 8);
  const linkToken = hexId(rng, 16);
  const startedMs = clock.nowMs();
  let draining = false;
  let records: Promise<KeyValue> | null = null;

  const table = new SlotTable({
    worker: id,
    workerIncarnation: incarnation,
    cluster,
    logins: new TargetLogins({
      config,
      network,
      env: process.env,
      onMoved: (target, from, to) =>
        log.warn(
          { target, from, to },
          'a portal has moved for good: change it in the configuration',
        ),
    }),
    sessionsMax: config.iscsi.session_max_count,
    connectTimeoutMs: config.iscsi.connection_timeout,
    clock,
    rng,
    pool: sharedPool,
    records: () => {
      records ??= bus.keyValue(subject.bucket).catch((error) => {
        records = null;
        throw error;
      });
      return records;
    },
    onSessionOpened: (session, { volume, slot, target }) =>
      logSession(session, log.child({ volume, slot, target }), clock),
    onSessionLost: (held, cause) => {
      const { volume, slot, target } = held;
      log.warn({ volume, slot, target, err: told(cause) }, 'session lost');
    },
  });

  const links: LinkServer[] = [];
  let advertised = '';
  if (deps.local !== undefined) deps.local.set(id, table);
  else {
    const link = workerLink(config, id);
    for (const address of link.listen) {
      const hello = { cluster, id, incarnation };
      const onEvent = (text: string): void => log.warn(text);
      links.push(
        await listenLink({
          network,
          address,
          host: table,
          pool: sharedPool,
          hello,
          token: linkToken,
          onEvent,
          ...(deps.workload === undefined ? {} : { workload: deps.workload }),
        }),
      );
    }
    advertised = link.advertise;
  }

  const self = (): Heartbeat => ({
    role: 'worker',
    id,
    incarnation,
    node: config.node.name,
    pid: process.pid,
    uptimeMs: clock.nowMs() - startedMs,
    link: advertised,
    linkToken,
    load: Math.min(1, table.heldCount / config.iscsi.session_max_count),
    draining,
  });
  const status = (): ProcessStatus => ({
    role: 'worker',
    id,
    node: config.node.name,
    pid: process.pid,
    uptimeMs: clock.nowMs() - startedMs,
    leader: false,
    sessions: table.sessions(clock.nowMs()),
    paths: [],
    volumes: [],
  });

  const served: Subscription[] = [
    bus.serve(subject.claim(id), async ({ data }) => {
      const request = checked(ClaimRequest, data, 'claim');
      const reply = await table.claim(request);
      const { volume, slot } = request;
      log.info(
        { volume, slot, incarnation: request.incarnation, portal: reply.portal },
        'logged in',
      );
      return reply;
    }),
    bus.serve(subject.reset(id), async ({ data }) => {
      await table.reset(checked(ResetRequest, data, 'reset'));
      return {};
    }),
    bus.serve(subject.afterReset(id), async ({ data }) => {
      table.afterReset(checked(AfterResetRequest, data, 'after-reset'));
      return {};
    }),
    bus.serve(subject.release(id), async ({ data }) => {
      await table.release(checked(ReleaseRequest, data, 'release'));
      return {};
    }),
    bus.serve(subject.seal(id), ({ data }) => table.seal(checked(SealRequest, data, 'seal'))),
    bus.serve(subject.status(id), async () => status()),
  ];
  const membership = new Membership({
    bus,
    subjects: subject,
    clock,
    self,
    // A gateway that has just come does not know us yet, and waits for somebody to hold its paths.
    onChange: ({ what, member }) => {
      if (member.role === 'gateway' && what === 'joined') membership.announce();
    },
  });
  membership.start();
  log.info({ link: advertised }, 'worker started');

  return {
    async close() {
      draining = true;
      membership.stop();
      for (const subscription of served) subscription.unsubscribe();
      await Promise.all(links.map((link) => link.close()));
      await table.close();
      deps.local?.delete(id);
      log.info('worker stopped');
    },
  };
}
