import { ActorSystem } from '#actor/system.ts';
import type { KeyValue } from '#bus/bus.ts';
import { Lease } from '#cluster/lease.ts';
import { Membership } from '#cluster/membership.ts';
import { volumePlans } from '#config/derive.ts';
import type { Heartbeat, ProcessStatus } from '#contracts/messages.ts';
import type { RunningService, ServiceDeps } from '#contracts/service.ts';
import { subjects } from '#contracts/subjects.ts';
import { every, sleep, type Timer } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';
import { hexId } from '#core/rng.ts';
import { Registry } from './registry.ts';

/** How often the leader compares what is with what should be, beside reacting to members. */
const ROUND_PERIOD_MS = 1_000;
const BUS_RETRY_MS = 500;

/** Compares what is with what should be. */
interface Placement {
  round(): Promise<void>;
}

/**
 * A coordinator: of several one leads, and sees to it that every volume has a living owner. Its loss never stops I/O;
 * a new leader goes on from the records.
 */
export async function startCoordinator(deps: ServiceDeps): Promise<RunningService> {
  const { config, id, bus, clock, rng, log } = deps;
  const subject = subjects(config.node.cluster);
  const incarnation = hexId(rng, 8);
  const startedMs = clock.nowMs();
  const plans = volumePlans(config);
  const stop = new AbortController();
  let registry: Registry | null = null;
  let lease: Lease | null = null;
  let rounds: Timer | null = null;

  const self = (): Heartbeat => ({
    role: 'coordinator',
    id,
    incarnation,
    node: config.node.name,
    pid: process.pid,
    uptimeMs: clock.nowMs() - startedMs,
    link: '',
    load: 0,
    draining: stop.signal.aborted,
  });
  const membership = new Membership({
    bus,
    subjects: subject,
    clock,
    self,
    onChange: () => placement.tell('round'),
  });
  const served = bus.serve(
    subject.status(id),
    async (): Promise<ProcessStatus> => ({
      role: 'coordinator',
      id,
      node: config.node.name,
      pid: process.pid,
      uptimeMs: clock.nowMs() - startedMs,
      leader: lease?.held ?? false,
      sessions: [],
      paths: [],
      volumes: [],
    }),
  );

  const actors = new ActorSystem({ clock });
  // One round at a time. One more may wait, which will see every change that comes until it begins.
  const placement = actors.spawn<Placement>(
    'placement',
    () => ({
      async round() {
        if (registry === null || lease === null) return;
        const gateways = membership.members('gateway').filter(({ draining }) => !draining);
        try {
          await (lease.held ? registry.round(gateways) : registry.look());
        } catch (error) {
          log.warn({ err: errorText(error) }, 'a placement round failed');
        }
      },
    }),
    { mailboxMax: 1 },
  );

  async function lead(): Promise<void> {
    let kv: KeyValue | null = null;
    while (kv === null && !stop.signal.aborted) {
      try {
        kv = await bus.keyValue(subject.bucket);
      } catch (error) {
        log.warn({ err: errorText(error) }, 'waiting for the bus');
        await sleep(clock, BUS_RETRY_MS, stop.signal).catch(() => {});
      }
    }
    if (kv === null) return;
    registry = new Registry({ kv, plans, clock, log });
    lease = new Lease({
      kv,
      key: 'lease.coordinator',
      holder: id,
      incarnation,
      clock,
      onAcquired: (epoch) => {
        log.info({ epoch }, 'leading');
        placement.tell('round');
      },
      onLost: (cause) => {
        if (cause === 'stopped') log.info('leadership given back');
        else log.warn({ cause }, 'leadership lost');
      },
      onAlarm: (alarm) => log.error({ alarm }, 'the records are not what they were'),
    });
    lease.start();
    rounds = every(clock, ROUND_PERIOD_MS, () => placement.tell('round'));
  }

  membership.start();
  lead().catch((error) => log.error({ err: errorText(error) }, 'the coordinator cannot lead'));
  log.info('coordinator started');

  return {
    async close() {
      stop.abort();
      rounds?.cancel();
      membership.stop();
      served.unsubscribe();
      await actors.stop();
      await lease?.stop();
      log.info('coordinator stopped');
    },
  };
}
