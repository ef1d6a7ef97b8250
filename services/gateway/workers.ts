import type { BlockCapabilities } from '#block/device.ts';
import type { Bus } from '#bus/bus.ts';
import type { Member, Membership } from '#cluster/membership.ts';
import { checked } from '#contracts/check.ts';
import { ClaimReply, type ClaimRequest, SealReply } from '#contracts/messages.ts';
import type { Subjects } from '#contracts/subjects.ts';
import { type Clock, sleep } from '#core/clock.ts';
import { LinkClient } from '#link/client.ts';
import type { Hello } from '#link/hello.ts';
import { LocalPath, type LocalWorkers } from '#link/host.ts';
import { LinkPath } from '#link/path.ts';
import { asPathAccess } from '#multipath/access.ts';
import type { PathDevice } from '#multipath/path.ts';
import { type Network, parseAddress } from '#wire/network.ts';
import { gatewayErrors } from './errors.ts';

/** Beyond the time that the worker was given, for the message itself. */
const REPLY_GRACE_MS = 500;

/** Beyond it, for the target's cache when an older epoch is sealed. */
const SEAL_FLUSH_MS_MAX = 2_000;

export interface WorkersOptions {
  readonly bus: Bus;
  readonly subjects: Subjects;
  readonly clock: Clock;
  readonly network: Network;
  readonly membership: Membership;
  readonly hello: Hello;
  readonly local: LocalWorkers | undefined;
  /** The link to a worker broke: the quickest sign of its death. */
  readonly onLinkLost: (worker: string, cause: Error) => void;
}

/** How often somebody looks whether a worker was heard. */
const HEARD_LOOK_MS = 50;

/** All that can be heard have been by then: workers send a sign of life each second, and when a gateway comes. */
const HEARD_ALL_MS = 1_100;

interface SlotOrder {
  readonly volume: string;
  readonly epoch: number;
  readonly slot: number;
  readonly incarnation: number;
}

/** A worker whose link broke is not asked first for this long, unless it was restarted meanwhile. */
const SUSPECT_MS = 5_000;

/** What a gateway asks of workers: orders over the bus, data over one link to each. */
export class Workers {
  readonly #options: WorkersOptions;
  readonly #suspects = new Map<
    string,
    { readonly incarnation: string; readonly untilMs: number }
  >();
  readonly #links = new Map<string, Promise<LinkClient>>();

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  /** Workers that may be given a slot now, by id. */
  alive(): readonly Member[] {
    return this.#options.membership
      .members('worker')
      .filter(({ state, draining }) => state === 'alive' && !draining);
  }

  /** Where none is known, not even a dead one: waits until those that are there have been heard. */
  async heard(signal: AbortSignal): Promise<void> {
    const { membership, clock } = this.#options;
    if (membership.members('worker').length > 0) return;
    while (membership.members('worker').length === 0) await sleep(clock, HEARD_LOOK_MS, signal);
    await sleep(clock, HEARD_ALL_MS, signal);
  }

  /** Its link broke a moment ago, and it has not been restarted since. */
  isSuspect(worker: string): boolean {
    const suspect = this.#suspects.get(worker);
    if (suspect === undefined) return false;
    const { membership, clock } = this.#options;
    const member = membership.members('worker').find(({ id }) => id === worker);
    const restarted = member !== undefined && member.incarnation !== suspect.incarnation;
    if (restarted || clock.nowMs() >= suspect.untilMs) this.#suspects.delete(worker);
    return this.#suspects.has(worker);
  }

  async claim(worker: string, request: ClaimRequest): Promise<ClaimReply> {
    const { bus, subjects } = this.#options;
    const timeoutMs = request.timeoutMs + REPLY_GRACE_MS;
    const reply = await bus.request(subjects.claim(worker), request, { timeoutMs });
    return checked(ClaimReply, reply, 'answer to a claim');
  }

  async reset(worker: string, order: SlotOrder, timeoutMs: number): Promise<void> {
    const { bus, subjects } = this.#options;
    const request = { ...order, timeoutMs };
    await bus.request(subjects.reset(worker), request, { timeoutMs: timeoutMs + REPLY_GRACE_MS });
  }

  async afterReset(worker: string, order: SlotOrder, timeoutMs: number): Promise<void> {
    const { bus, subjects } = this.#options;
    await bus.request(subjects.afterReset(worker), order, { timeoutMs });
  }

  async release(worker: string, order: SlotOrder, timeoutMs: number): Promise<void> {
    const { bus, subjects } = this.#options;
    await bus.request(subjects.release(worker), order, { timeoutMs });
  }

  async seal(worker: string, volume: string, epoch: number, timeoutMs: number): Promise<SealReply> {
    const { bus, subjects } = this.#options;
    const reply = await bus.request(
      subjects.seal(worker),
      { volume, epoch, timeoutMs },
      { timeoutMs: timeoutMs + REPLY_GRACE_MS + SEAL_FLUSH_MS_MAX },
    );
    return checked(SealReply, reply, 'answer to a seal');
  }

  /** The device behind a claim: a plain call in this process, else a path over the worker's link. */
  async path(
    worker: string,
    name: string,
    order: SlotOrder,
    reply: ClaimReply,
  ): Promise<PathDevice> {
    const { handle, workerIncarnation } = reply;
    const { epoch } = order;
    const incarnation = order.incarnation & 0xffff;
    const host = this.#options.local?.get(worker);
    if (host !== undefined) return new LocalPath(host, handle, incarnation, epoch);
    const link = await this.#link(worker);
    if (link.peer.incarnation !== workerIncarnation) {
      // One of the two processes is gone: a fresh link leads to the one that lives.
      link.close();
      throw gatewayErrors.make('GATEWAY_WORKER_CHANGED', { fields: { worker } });
    }
    const caps = reply.caps as unknown as BlockCapabilities;
    const access = asPathAccess(reply.access) ?? undefined;
    return new LinkPath(link, { name, caps, access, handle, incarnation, epoch });
  }

  /** One link to each worker, opened when first needed and again when it was lost. */
  #link(worker: string): Promise<LinkClient> {
    const known = this.#links.get(worker);
    if (known !== undefined) return known;
    const opening = this.#open(worker);
    this.#links.set(worker, opening);
    opening.then(
      (link) => {
        link.onLost((cause) => {
          if (this.#links.get(worker) === opening) this.#links.delete(worker);
          const untilMs = this.#options.clock.nowMs() + SUSPECT_MS;
          this.#suspects.set(worker, { incarnation: link.peer.incarnation, untilMs });
          this.#options.onLinkLost(worker, cause);
        });
      },
      () => {
        if (this.#links.get(worker) === opening) this.#links.delete(worker);
      },
    );
    return opening;
  }

  async #open(worker: string): Promise<LinkClient> {
    const { membership, network, clock, hello } = this.#options;
    const member = membership.members('worker').find(({ id }) => id === worker);
    const address = parseAddress(member?.link ?? '');
    if (address === null) {
      throw gatewayErrors.make('GATEWAY_NO_LINK', {
        message: `worker ${worker} has not said where its link is`,
      });
    }
    const token = member?.linkToken;
    const ours = token === undefined ? hello : { ...hello, token };
    return LinkClient.connect({ network, clock, address, hello: ours });
  }

  async close(): Promise<void> {
    const links = await Promise.allSettled(this.#links.values());
    this.#links.clear();
    for (const link of links) if (link.status === 'fulfilled') link.value.close();
  }
}
