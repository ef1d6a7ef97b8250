import { sleep } from '../core/clock.ts';
import { keyOf } from '../iscsi/keys.ts';
import { nameInvalidReason, normalizeName } from '../iscsi/names.ts';
import type { Address, Listener, StreamSink } from '../wire/network.ts';
import { Connection } from './connection.ts';
import { Engine } from './engine.ts';
import { targetErrors } from './errors.ts';
import type { Faults } from './faults.ts';
import { LogicalUnit } from './logical-unit.ts';
import {
  DEFAULT_PARAMS,
  type LunOptions,
  type SessionInfo,
  type TargetOptions,
  type WriteRecord,
} from './options.ts';
import type { RamDisk } from './ram-disk.ts';

export type { HeldWrites } from './held-writes.ts';
export type * from './options.ts';

/** Units of one target. */
const LUNS_MAX = 256;

/** Connections at one time; one more is reset at once. */
const CONNECTIONS_MAX = 1024;

const LUN_MAX = 0x3fff;
const WINDOW_MAX = 4096;

/** An iSCSI target in this process: RAM disks and scripted faults. For the demo, tests and the simulation. */
export interface Target {
  readonly name: string;
  /** One for each portal, with the port that was given to it. */
  readonly addresses: readonly Address[];
  readonly faults: Faults;
  /** Executed writes, oldest first; empty unless `recordWrites` was asked for. */
  readonly writeLog: readonly WriteRecord[];
  /** The disk behind a LUN, for looking and for preparing. */
  disk(lun: number): RamDisk;
  /** Blocks of a LUN, and its identity in VPD page 83. */
  unit(lun: number): LogicalUnit;
  sessions(): SessionInfo[];
  /** Bytes of data buffers that are in use: 0 when nothing is on its way. */
  readonly bufferBytes: number;
  /**
   * Drops every session and every command that is not executed, and comes back as after power on, on the same addresses,
   * after `downMs`. `loseCache`: units with a write cache lose what was not flushed.
   */
  restart(options?: { readonly loseCache?: boolean; readonly downMs?: number }): Promise<void>;
  close(): Promise<void>;
}

export async function startTarget(options: TargetOptions): Promise<Target> {
  const targetName = normalizeName(options.targetName);
  checkOptions(options);
  const units = options.luns.map((lun) => new LogicalUnit(targetName, lun));
  const engine = new Engine({ ...options, targetName }, units);
  engine.portals = options.portals.map(({ address, tpgt }) => ({ address, tpgt: tpgt ?? 1 }));
  let listeners = await listenAll(engine);
  let closed = false;

  const stop = async (): Promise<void> => {
    const old = listeners;
    listeners = [];
    engine.powerOn();
    await Promise.all(old.map((listener) => listener.close()));
  };

  const unit = (lun: number): LogicalUnit => {
    const found = engine.device.units.get(lun);
    if (found === undefined) {
      throw targetErrors.make('TARGET_NO_LUN', { fields: { target: targetName, lun } });
    }
    return found;
  };

  return {
    name: targetName,
    get addresses() {
      return engine.portals.map((portal) => portal.address);
    },
    faults: engine.faults,
    writeLog: engine.writeLog,
    unit,
    disk: (lun) => unit(lun).disk,
    sessions: () => sessionInfos(engine),
    get bufferBytes() {
      return engine.pool.takenBytes;
    },
    async restart({ loseCache = false, downMs = 0 } = {}) {
      await stop();
      if (loseCache) for (const { disk } of units) disk.loseCache();
      if (downMs > 0) await sleep(engine.clock, downMs);
      if (!closed) listeners = await listenAll(engine);
    },
    async close() {
      if (closed) return;
      closed = true;
      await stop();
    },
  };
}

/** The sink of a connection that is turned away. */
const DEAF: StreamSink = {
  buffer: () => Buffer.allocUnsafe(1024),
  data() {},
  closed() {},
};

async function listenAll(engine: Engine): Promise<Listener[]> {
  const listeners: Listener[] = [];
  try {
    for (const [index, portal] of engine.portals.entries()) {
      const listener = await engine.options.network.listen(portal.address, (stream) => {
        if (engine.connections.size < CONNECTIONS_MAX) {
          return new Connection(engine, stream, index, portal.tpgt);
        }
        process.nextTick(() => stream.destroy());
        return DEAF;
      });
      listeners.push(listener);
      portal.address = listener.address;
    }
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close()));
    throw error;
  }
  return listeners;
}

function sessionInfos(engine: Engine): SessionInfo[] {
  return [...engine.sessions].map((session) => {
    const connections = [...session.connections.values()].map((connection) => ({
      cid: connection.cid,
      portal: connection.portalIndex,
      remote: connection.remote,
    }));
    const [first] = session.connections.values();
    return {
      initiatorName: session.nexus.initiatorName,
      isid: session.nexus.isid,
      tsih: session.tsih,
      type: session.isDiscovery ? 'Discovery' : 'Normal',
      tpgt: first?.tpgt ?? session.nexus.tpgt,
      portal: first?.portalIndex ?? -1,
      remote: first?.remote ?? '',
      tasks: session.tasks.size,
      errorRecoveryLevel: session.params.errorRecoveryLevel,
      connections,
    };
  });
}

function checkOptions(options: TargetOptions): void {
  const bad = (message: string): Error => targetErrors.make('TARGET_BAD_OPTION', { message });
  const nameReason = nameInvalidReason(options.targetName);
  if (nameReason !== null) throw bad(`target name "${options.targetName}": ${nameReason}`);
  if (options.portals.length === 0) throw bad('a target needs a portal');
  if (options.luns.length > LUNS_MAX) throw bad(`at most ${LUNS_MAX} LUNs`);
  const seen = new Set<number>();
  for (const lun of options.luns) {
    const reason = seen.has(lun.lun) ? 'given twice' : lunInvalidReason(lun);
    if (reason !== null) throw bad(`LUN ${lun.lun}: ${reason}`);
    seen.add(lun.lun);
  }
  const { chap } = options;
  if (chap !== undefined) {
    for (const { user, secret } of [chap, chap.mutual ?? chap]) {
      if (user === '' || secret === '') throw bad('a CHAP account has a user and a secret');
    }
    // §9.2.1
    if (chap.mutual?.secret === chap.secret) throw bad('CHAP needs two secrets for two directions');
  }
  const params = { ...DEFAULT_PARAMS, ...options.params };
  const { commandWindow } = params;
  if (!Number.isInteger(commandWindow) || commandWindow < 1 || commandWindow > WINDOW_MAX) {
    throw bad(`commandWindow is 1 to ${WINDOW_MAX}`);
  }
  const ranged = {
    MaxRecvDataSegmentLength: params.maxRecvDataSegmentLength,
    FirstBurstLength: params.firstBurstLength,
    MaxBurstLength: params.maxBurstLength,
    MaxOutstandingR2T: params.maxOutstandingR2T,
    MaxConnections: params.maxConnections,
    ErrorRecoveryLevel: params.errorRecoveryLevel,
    DefaultTime2Wait: params.time2Wait,
    DefaultTime2Retain: params.time2Retain,
    iSCSIProtocolLevel: params.protocolLevel,
  } as const;
  for (const [name, value] of Object.entries(ranged)) {
    const key = keyOf(name as keyof typeof ranged);
    const [min, max] = key.type === 'number' ? key.range : [0, 0];
    if (!Number.isInteger(value) || value < min || value > max) {
      throw bad(`${name} is ${min} to ${max}, not ${value}`);
    }
  }
  if (params.firstBurstLength > params.maxBurstLength) {
    throw bad('FirstBurstLength may not exceed MaxBurstLength');
  }
}

function lunInvalidReason(lun: LunOptions): string | null {
  if (!Number.isInteger(lun.lun) || lun.lun < 0 || lun.lun > LUN_MAX) {
    return `a LUN is 0 to ${LUN_MAX}`;
  }
  const blockBytes = lun.blockBytes ?? 512;
  if (blockBytes !== 512 && blockBytes !== 4096) return 'blocks have 512 or 4096 bytes';
  const { sizeBytes } = lun;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % blockBytes !== 0) {
    return `the size is a positive multiple of ${blockBytes} bytes`;
  }
  if (lun.wwid !== undefined && !/^3[0-9a-f]{15}$/i.test(lun.wwid)) {
    return 'a wwid has 16 hexadecimal digits and begins with 3';
  }
  return null;
}
