import { processId, type RoleName } from '#config/derive.ts';
import type { OrionConfig } from '#config/schema.ts';
import type { Clock } from '#core/clock.ts';
import { isChildMessage } from './child-messages.ts';
import { type ChildHandle, Supervised, type SupervisedLog } from './supervised.ts';

/** Time that each process has to finish its work when the node stops. */
export const DRAIN_MS = 15_000;
/** A process that ends so often before it has been up once will never be: the start is given up. */
const FIRST_START_TRIES_MAX = 3;

export interface ProcessRow {
  readonly role: string;
  readonly id: string;
  readonly pid: number;
  readonly restarts: number;
}

export interface NodeProcessesOptions {
  readonly config: OrionConfig;
  readonly clock: Clock;
  readonly log: SupervisedLog;
  spawnRole(role: RoleName, id: string): ChildHandle;
  /** Left out when the bus is somebody else's. `ready` resolves false when the start was called off. */
  readonly nats?: { spawn(): ChildHandle; ready(): Promise<boolean> };
  onReady(volume: string, uris: readonly string[]): void;
  /** A process cannot start at all: the node should stop. Called once. */
  onHopeless(line: string, exitCode: number): void;
  /** Pids have changed. */
  onChange(): void;
}

/** The processes of one node and the order of their start and end. */
export class NodeProcesses {
  readonly #options: NodeProcessesOptions;
  readonly #nats: Supervised | null;
  readonly #roles: { readonly role: RoleName; readonly process: Supervised }[];
  readonly #wereUp = new Set<string>();
  readonly #lastWords = new Map<string, { line: string; exitCode: number }>();
  readonly #ends = new Map<string, number>();
  #isHopeless = false;
  #isStopping = false;

  constructor(options: NodeProcessesOptions) {
    this.#options = options;
    const { config, nats } = options;
    const workers = Array.from({ length: config.workers.count }, (_, i) => ['worker', i] as const);
    const plan = [['coordinator', 0] as const, ...workers, ['gateway', 0] as const];
    this.#roles = plan.map(([role, index]) => ({ role, process: this.#role(role, index) }));
    this.#nats = nats === undefined ? null : this.#natsProcess(nats.spawn);
  }

  async start(): Promise<void> {
    this.#nats?.start();
    const goOn = (await this.#options.nats?.ready()) ?? true;
    if (!goOn || this.#isStopping) return;
    for (const { process } of this.#roles) process.start();
  }

  /** Clients first, so that their I/O finishes over living workers; the bus last, so that all can say goodbye. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const role of ['gateway', 'worker', 'coordinator'] as const) {
      const members = this.#roles.filter((member) => member.role === role);
      await Promise.all(members.map(({ process }) => process.stop(DRAIN_MS)));
    }
    await this.#nats?.stop(DRAIN_MS);
  }

  kill(): void {
    this.#isStopping = true;
    for (const { process } of this.#roles) process.kill();
    this.#nats?.kill();
  }

  list(): ProcessRow[] {
    const rows = this.#roles.map(({ role, process }) => ({
      role,
      id: process.id,
      pid: process.pid ?? 0,
      restarts: process.restarts,
    }));
    if (this.#nats === null) return rows;
    const { id, pid, restarts } = this.#nats;
    return [...rows, { role: 'nats', id, pid: pid ?? 0, restarts }];
  }

  #role(role: RoleName, index: number): Supervised {
    const { config, clock, log } = this.#options;
    const id = processId(config, role, index);
    const supervised: Supervised = new Supervised({
      id,
      clock,
      log,
      start: () => this.#options.spawnRole(role, id),
      onMessage: (message) => this.#heard(id, message),
      onChange: () => this.#changed(id, supervised.pid),
    });
    return supervised;
  }

  #natsProcess(spawn: () => ChildHandle): Supervised {
    const { config, clock, log, onChange } = this.#options;
    const id = `${config.node.name}-nats`;
    return new Supervised({ id, clock, log, start: spawn, onMessage: () => {}, onChange });
  }

  #heard(id: string, message: unknown): void {
    if (!isChildMessage(message)) {
      this.#options.log.warn({ id }, 'a message of a child makes no sense');
      return;
    }
    switch (message.type) {
      case 'alive':
        return;
      case 'started':
        this.#wereUp.add(id);
        return;
      case 'ready':
        this.#options.onReady(message.volume, message.uris);
        return;
      case 'failed':
        this.#lastWords.set(id, message);
        if (this.#wereUp.has(id))
          this.#options.log.warn({ id, reason: message.line }, 'start failed');
        else this.#hopeless(message.line, message.exitCode);
    }
  }

  #changed(id: string, pid: number | null): void {
    this.#options.onChange();
    if (pid !== null || this.#isStopping || this.#wereUp.has(id)) return;
    const ends = (this.#ends.get(id) ?? 0) + 1;
    this.#ends.set(id, ends);
    if (ends < FIRST_START_TRIES_MAX) return;
    const words = this.#lastWords.get(id);
    const line =
      words?.line ?? `${id} ended ${ends} times before it was up; its log above says why`;
    this.#hopeless(line, words?.exitCode ?? 1);
  }

  #hopeless(line: string, exitCode: number): void {
    if (this.#isHopeless || this.#isStopping) return;
    this.#isHopeless = true;
    this.#options.onHopeless(line, exitCode);
  }
}
